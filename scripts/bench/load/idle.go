package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"culvert/scripts/bench/proc"
)

// earlyStreams is how many streams are open before the memory of the others is measured.
const earlyStreams = 100

// idle opens the request's streams, and measures the memory they take in the processes it names:
// kb_per_stream (1 KB is 1024 bytes).
func idle(ctx context.Context, r Request) (Values, error) {
	// What only the first connections allocate, such as code and pools, is not counted.
	early := r
	early.Streams = earlyStreams
	first, before, err := openSettled(ctx, early)
	defer closeAll(first)
	if err != nil {
		return nil, err
	}
	conns, after, err := openSettled(ctx, r)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	return Values{"kb_per_stream": (after - before) / 1024 / float64(len(conns))}, nil
}

// hold opens the request's streams, and measures the echo of another one before and while they are
// open. It then counts the streams that still echo a byte: unloaded_p50_ms, p50_ms, ratio, held and
// kb_per_stream.
func hold(ctx context.Context, r Request) (Values, error) {
	live, err := r.openEcho(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	defer live.Close()
	unloaded, err := echoValues(ctx, []net.Conn{live}, r.Window, 0)
	if err != nil {
		return nil, err
	}
	before := proc.Tree(r.PIDs...).Memory()
	conns, after, err := openSettled(ctx, r)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	loaded, err := echoValues(ctx, []net.Conn{live}, r.Window, 0)
	if err != nil {
		return nil, err
	}
	values := Values{
		"unloaded_p50_ms": unloaded["p50_ms"],
		"p50_ms":          loaded["p50_ms"],
		"ratio":           loaded["p50_ms"] / unloaded["p50_ms"],
		"held":            float64(stillEcho(conns)),
	}
	if len(r.PIDs) > 0 {
		values["kb_per_stream"] = (after - before) / 1024 / float64(len(conns))
	}
	return values, nil
}

// openSettled opens the request's streams, and returns them with the memory in bytes that the
// processes it names take once they have settled. The caller closes the streams, even on error.
func openSettled(ctx context.Context, r Request) ([]net.Conn, float64, error) {
	conns, err := openIdle(ctx, r)
	if err == nil {
		err = wait(ctx, settleTime)
	}
	if err != nil {
		return conns, 0, err
	}
	return conns, proc.Tree(r.PIDs...).Memory(), nil
}

// openIdle opens the request's streams. The caller must close those that it returns, even on error.
func openIdle(ctx context.Context, r Request) ([]net.Conn, error) {
	conns := make([]net.Conn, r.Streams)
	err := concurrently(ctx, opening, r.Streams, func(ctx context.Context, i int) (err error) {
		conns[i], err = r.openEcho(ctx, r.Target)
		return err
	})
	if err != nil {
		return conns, fmt.Errorf("%d of %d streams were opened: %w", len(conns)-missing(conns),
			r.Streams, err)
	}
	return conns, nil
}

// concurrently calls f with each number from 0 to n-1, a few at a time. After an error, which it
// returns, it calls f no more.
func concurrently(ctx context.Context, few, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var working sync.WaitGroup
	next := make(chan int)
	for range few {
		working.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	working.Wait()
	return context.Cause(ctx)
}

// missing counts the connections that were not opened.
func missing(conns []net.Conn) (n int) {
	for _, conn := range conns {
		if conn == nil {
			n++
		}
	}
	return n
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
}

// stillEcho counts the connections that echo a byte.
func stillEcho(conns []net.Conn) int {
	deadline := time.Now().Add(echoTime)
	for _, conn := range conns {
		conn.SetDeadline(deadline)
		conn.Write([]byte{0}) // if it fails, so does the read
	}
	held := 0
	for _, conn := range conns {
		if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
			held++
		}
	}
	return held
}
