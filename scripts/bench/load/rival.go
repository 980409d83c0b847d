package load

import (
	"context"
	"errors"
	"net"
)

// rival measures the request's downloads next to one that takes no proxy, under its own congestion
// control if the request names one: share, of what both move together, and mb_per_s.
func rival(ctx context.Context, r Request) (Values, error) {
	other, err := startRival(ctx, r)
	if err != nil {
		return nil, err
	}
	defer other.stop()
	mine, err := startBulk(ctx, r, r.Streams)
	if err != nil {
		return nil, err
	}
	defer mine.stop()
	if err := wait(ctx, r.Warmup); err != nil {
		return nil, err
	}
	var theirs float64
	rate, err := mine.measured(func() error {
		theirs, err = other.measured(func() error { return wait(ctx, r.Window) })
		return err
	})
	if err != nil {
		return nil, err
	}
	if rate+theirs == 0 {
		return nil, errors.New("nothing arrived")
	}
	return Values{"share": rate / (rate + theirs), "mb_per_s": rate / 1e6}, nil
}

// startRival starts the other download.
func startRival(ctx context.Context, r Request) (*bulk, error) {
	r.Socks, r.Up = "", false
	if r.Rival == "" {
		return startBulk(ctx, r, 1)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return r.dial(ctx, r.Target) }
	order := append([]byte{rivalry, byte(len(r.Rival))}, r.Rival...)
	return startDownloads(ctx, []dialFunc{dial}, order)
}
