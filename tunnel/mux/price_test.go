package mux

import (
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// pricePiece is how much moves in a turn, in bytes: some 30 ms, which is long compared with the
// beginning and end of a turn and short compared with how the load of a shared machine changes.
const pricePiece = 32 << 20

// BenchmarkRetention compares sessions that retain what they send, so that they can be resumed,
// with sessions that do not. The two alternate in the order ABBA, so that what slows the machine
// down slows both down alike. An iteration is one such round and gives one ratio of times. Reported
// are their median, and half the width of its 95 % confidence interval, which from some 30 rounds
// on (-benchtime 30x) shows whether the median is significant.
func BenchmarkRetention(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		comparePrice(b, func(retaining bool) (client, server *Session) {
			near, far := newLoopPair()
			return joinEnds(b, near, far, retaining)
		})
	})
	b.Run("loopback", func(b *testing.B) {
		// As the program does.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS((runtime.GOMAXPROCS(0) + 1) / 2))
		comparePrice(b, func(retaining bool) (client, server *Session) {
			near, far := newSecuredPair(b)
			return joinEnds(b, near, far, retaining)
		})
	})
}

func comparePrice(b *testing.B, start func(retaining bool) (client, server *Session)) {
	plain, retained := newMover(b, start, false), newMover(b, start, true)
	plain.move(b)
	retained.move(b)
	var ratios []float64
	var total time.Duration
	for b.Loop() {
		first := plain.move(b)
		second := retained.move(b) + retained.move(b)
		first += plain.move(b)
		total += first
		ratios = append(ratios, float64(second)/float64(first))
	}
	slices.Sort(ratios)
	low, high := medianInterval(ratios)
	b.ReportMetric(0, "ns/op") // of a round means nothing
	b.ReportMetric(2*pricePiece*float64(len(ratios))/1e6/total.Seconds(), "plain-MB/s")
	b.ReportMetric(median(ratios), "retained/plain")
	b.ReportMetric((high-low)/2, "±")
}

// mover is a session with a stream through which data moves from one end to the other, by ReadFrom
// and WriteTo as between two sockets.
type mover struct {
	from    *Stream
	content source
	arrived arrivals
}

func newMover(b *testing.B, start func(retaining bool) (client, server *Session),
	retaining bool) *mover {
	client, server := start(retaining)
	from, to := openPair(b, client, server)
	m := &mover{from: from, content: make(source, maxData),
		arrived: arrivals{whole: make(chan struct{}, 1)}}
	var copying sync.WaitGroup
	copying.Go(func() {
		if _, err := to.WriteTo(&m.arrived); err != nil {
			b.Error(err)
		}
		to.Close()
	})
	b.Cleanup(func() {
		from.Close()
		copying.Wait()
	})
	return m
}

// move moves one piece and returns how long it took until all of it had arrived.
func (m *mover) move(b *testing.B) time.Duration {
	began := time.Now()
	if _, err := m.from.ReadFrom(&io.LimitedReader{R: m.content, N: pricePiece}); err != nil {
		b.Fatal(err)
	}
	<-m.arrived.whole
	return time.Since(began)
}

// source is a reader that copies the same bytes forever, as reading a socket does: what is sent was
// just written, and is in the processor's cache.
type source []byte

func (s source) Read(p []byte) (int, error) { return copy(p, s), nil }

// arrivals counts what is written to it, and signals each whole piece.
type arrivals struct {
	bytes int
	whole chan struct{}
}

func (a *arrivals) Write(p []byte) (int, error) {
	if a.bytes += len(p); a.bytes >= pricePiece {
		a.bytes -= pricePiece
		a.whole <- struct{}{}
	}
	return len(p), nil
}

// median returns the median of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medianInterval returns the 95 % confidence interval of the median of sorted values, by their
// ranks: as many values are below the true median as heads come up in that many tosses of a coin.
// With few values it is all of them.
func medianInterval(sorted []float64) (low, high float64) {
	n := float64(len(sorted))
	rank := max(int(math.Floor((n-1.96*math.Sqrt(n))/2)), 0)
	return sorted[rank], sorted[len(sorted)-1-rank]
}
