package mux

import (
	"io"
	"strconv"
	"sync"
	"testing"
)

// BenchmarkThroughput moves data over a carrier in memory, shared by all streams.
func BenchmarkThroughput(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			client, server := newPair(b, Config{}, Config{})
			var readers, writers sync.WaitGroup
			piece := make([]byte, maxData)
			b.ReportAllocs()
			b.SetBytes(maxData)
			for i := range n {
				opened, accepted := openPair(b, client, server)
				readers.Go(func() {
					if _, err := io.Copy(io.Discard, accepted); err != nil {
						b.Error(err)
					}
					accepted.Close()
				})
				writers.Go(func() {
					defer opened.Close()
					for range (b.N + n - 1 - i) / n {
						if _, err := opened.Write(piece); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			readers.Wait()
		})
	}
}

// BenchmarkOpen opens, confirms and closes streams one after the other.
func BenchmarkOpen(b *testing.B) {
	client, server := newPair(b, Config{}, Config{})
	b.ReportAllocs()
	for b.Loop() {
		opened, accepted := openPair(b, client, server)
		opened.Close()
		accepted.Close()
	}
}
