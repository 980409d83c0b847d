package load

import (
	"context"
	"errors"
)

// rival measures the request's downloads next to one that takes no proxy: share, of what both move
// together, and mb_per_s.
func rival(ctx context.Context, r Request) (Values, error) {
	direct := r
	direct.Socks = ""
	other, err := startBulk(ctx, direct, 1)
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
