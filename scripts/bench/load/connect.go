package load

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"culvert/scripts/bench/result"
)

// connect opens connections one after another, with as many at a time as the request has streams,
// and closes each once a byte has come back. It measures conns_per_s and p50_ms.
func connect(ctx context.Context, r Request) (Values, error) {
	var mu sync.Mutex // guards times and failure
	var times []float64
	var failure error
	var working sync.WaitGroup
	begin := time.Now()
	for range r.Streams {
		working.Go(func() {
			for time.Since(begin) < r.Window && ctx.Err() == nil {
				began := time.Now()
				conn, err := r.openEcho(ctx, r.Target)
				took := milliseconds(time.Since(began))
				if err == nil {
					conn.Close()
				}
				mu.Lock()
				if err != nil {
					failure = err
				} else {
					times = append(times, took)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	working.Wait()
	if failure != nil {
		return nil, fmt.Errorf("after %d connections: %w", len(times), failure)
	}
	return Values{
		"conns_per_s": float64(len(times)) / time.Since(begin).Seconds(),
		"p50_ms":      result.Quantile(times, 0.5),
	}, nil
}

// firstByte measures how long it takes until the first byte of a new connection has come back, for
// ports that are new to the proxy, then for the same ports again: unseen_ms and seen_ms.
func firstByte(ctx context.Context, r Request) (Values, error) {
	host, _, err := net.SplitHostPort(r.Target)
	if err != nil {
		return nil, err
	}
	var unseen, seen []float64
	for _, port := range r.Ports {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		for _, times := range []*[]float64{&unseen, &seen} {
			began := time.Now()
			conn, err := r.openEcho(ctx, address)
			if err != nil {
				return nil, err
			}
			*times = append(*times, milliseconds(time.Since(began)))
			conn.Close()
		}
	}
	return Values{"unseen_ms": result.Median(unseen), "seen_ms": result.Median(seen)}, nil
}
