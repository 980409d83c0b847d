package mux

import (
	"context"
	"io"
	"strconv"
	"sync"
	"testing"

	"culvert/tunnel/mux/budget"
)

// BenchmarkThroughput moves data over a carrier in memory, shared by all streams: in a session that
// ends with its carrier, in one that retains what it sends so that it can be resumed, and in one
// whose memory is counted in a budget too, as the program does.
func BenchmarkThroughput(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(strconv.Itoa(n)+"/plain", func(b *testing.B) {
			client, server := newPair(b, Config{}, Config{})
			moveData(b, client, server, n)
		})
		b.Run(strconv.Itoa(n)+"/retained", func(b *testing.B) {
			client, server := newRetainingPair(b, Config{})
			moveData(b, client, server, n)
		})
		b.Run(strconv.Itoa(n)+"/budget", func(b *testing.B) {
			client, server := newRetainingPair(b, Config{Memory: budget.New(512 << 20)})
			moveData(b, client, server, n)
		})
	}
}

// newRetainingPair starts a session that can be resumed, over a carrier without delay.
func newRetainingPair(b *testing.B, cfg Config) (client, server *Session) {
	near, far := newSecurePipe()
	near.delay, far.delay = 0, 0
	r := &rig{t: b, host: NewHost(HostConfig{}), cfg: cfg}
	accepted := r.accept(far, owner)
	client, err := NewClient(context.Background(), near, cfg)
	if err != nil {
		b.Fatal(err)
	}
	server = (<-accepted).s
	b.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

func moveData(b *testing.B, client, server *Session, n int) {
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
