package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"culvert/scripts/bench/result"
)

// echoes measures the round trip of a small message, while the request's bulk transfers run if it
// has any: p50_ms, p90_ms, p99_ms and bulk_mb_per_s.
func echoes(ctx context.Context, r Request) (Values, error) {
	if r.Bulk == 0 {
		conn, err := r.openEcho(ctx, r.Target)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return echoValues(ctx, []net.Conn{conn}, r.Window, 0)
	}
	b, err := startBulk(ctx, r, r.Bulk)
	if err != nil {
		return nil, err
	}
	defer b.stop()
	if err := wait(ctx, r.Warmup); err != nil {
		return nil, err
	}
	conn, err := r.openEcho(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var values Values
	rate, err := b.measured(func() (err error) {
		values, err = echoValues(ctx, []net.Conn{conn}, r.Window, loadedPause)
		return err
	})
	if err != nil {
		return nil, err
	}
	values["bulk_mb_per_s"] = rate / 1e6
	return values, nil
}

// echoValues sends messages for a while over the connections in turn, each after the previous one
// has come back and a pause has passed.
func echoValues(ctx context.Context, conns []net.Conn, window, pause time.Duration) (Values,
	error) {
	message := make([]byte, echoSize)
	var times []float64
	for begin := time.Now(); time.Since(begin) < window; {
		conn := conns[len(times)%len(conns)]
		sent := time.Now()
		conn.SetDeadline(sent.Add(echoTime))
		if _, err := conn.Write(message); err != nil {
			return nil, fmt.Errorf("echo: %w", err)
		}
		if _, err := io.ReadFull(conn, message); err != nil {
			return nil, fmt.Errorf("echo: %w", err)
		}
		times = append(times, milliseconds(time.Since(sent)))
		if pause > 0 {
			if err := wait(ctx, pause); err != nil {
				return nil, err
			}
		}
	}
	return Values{
		"p50_ms": result.Quantile(times, 0.5),
		"p90_ms": result.Quantile(times, 0.9),
		"p99_ms": result.Quantile(times, 0.99),
	}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
