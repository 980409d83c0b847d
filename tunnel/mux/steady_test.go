package mux

import (
	"context"
	"fmt"
	"io"
	"testing"
)

// copies is a way to move data piece by piece between the two ends of a stream.
type copies struct {
	name string
	move func(t testing.TB, client, server *Session, size int) (once func())
}

var allCopies = []copies{
	{"Write-Read", func(t testing.TB, client, server *Session, size int) func() {
		opened, accepted := openPair(t, client, server)
		t.Cleanup(func() { opened.Close(); accepted.Close() })
		sent, got := make([]byte, size), make([]byte, size)
		return func() {
			if _, err := opened.Write(sent); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(accepted, got); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"ReadFrom-WriteTo", func(t testing.TB, client, server *Session, size int) func() {
		opened, accepted := openPair(t, client, server)
		source, sink := &turnstile{size: size, turns: make(chan struct{})},
			&turnstile{size: size, turns: make(chan struct{}, 1)}
		failed := make(chan error, 2)
		go func() {
			_, err := opened.ReadFrom(source)
			opened.Close()
			failed <- err
		}()
		go func() {
			_, err := accepted.WriteTo(sink)
			accepted.Close()
			failed <- err
		}()
		t.Cleanup(func() {
			close(source.turns)
			for range cap(failed) {
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
		})
		return func() {
			source.turns <- struct{}{}
			<-sink.turns
		}
	}},
}

// turnstile is a source that gives a piece for each turn, and a sink that gives a turn for each
// piece.
type turnstile struct {
	size, done int // done is of the present piece
	turns      chan struct{}
}

func (s *turnstile) Read(p []byte) (int, error) {
	if s.done == 0 {
		if _, ok := <-s.turns; !ok {
			return 0, io.EOF
		}
	}
	n := min(len(p), s.size-s.done)
	s.done = (s.done + n) % s.size
	return n, nil
}

func (s *turnstile) Write(p []byte) (int, error) {
	s.done += len(p)
	for ; s.done >= s.size; s.done -= s.size {
		s.turns <- struct{}{}
	}
	return len(p), nil
}

// eachSteady runs a test for each way, for sessions of both kinds, and for sizes from a keystroke
// to some frames.
func eachSteady(run func(name string, way copies, retaining bool, size int)) {
	for _, way := range allCopies {
		for _, retaining := range []bool{false, true} {
			for _, size := range []int{64, 2000, maxData, 4 * maxData} {
				kind := "plain"
				if retaining {
					kind = "retained"
				}
				run(fmt.Sprintf("%s/%s/%d", way.name, kind, size), way, retaining, size)
			}
		}
	}
}

// BenchmarkStream moves a piece from one end of a stream to the other and waits for it.
func BenchmarkStream(b *testing.B) {
	eachSteady(func(name string, way copies, retaining bool, size int) {
		b.Run(name, func(b *testing.B) {
			near, far := newLoopPair()
			client, server := joinEnds(b, near, far, retaining)
			once := way.move(b, client, server, size)
			once()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	})
}

// BenchmarkPing measures what a frame of the session costs to go to the peer and another to come
// back.
func BenchmarkPing(b *testing.B) {
	near, far := newLoopPair()
	client, _ := joinEnds(b, near, far, true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Ping(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
