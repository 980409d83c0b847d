package load

import (
	"context"
	"errors"

	"culvert/scripts/bench/proc"
)

// throughput moves data over the request's streams, and measures the rate of arrival and the CPU
// time it takes: mb_per_s and cpu_s_per_gb (MB and GB are powers of ten).
func throughput(ctx context.Context, r Request) (Values, error) {
	b, err := startBulk(ctx, r, r.Streams)
	if err != nil {
		return nil, err
	}
	defer b.stop()
	return b.rate(ctx, r)
}

// rate measures what the connections move after the request's warm-up: mb_per_s and cpu_s_per_gb.
func (b *bulk) rate(ctx context.Context, r Request) (Values, error) {
	if err := wait(ctx, r.Warmup); err != nil {
		return nil, err
	}
	var cpu float64
	rate, err := b.measured(func() error {
		family := proc.Tree(r.PIDs...)
		before := family.CPU()
		if err := wait(ctx, r.Window); err != nil {
			return err
		}
		cpu = family.CPU() - before
		return nil
	})
	if err != nil {
		return nil, err
	}
	if rate == 0 {
		return nil, errors.New("nothing arrived")
	}
	values := Values{"mb_per_s": rate / 1e6}
	if len(r.PIDs) > 0 {
		values["cpu_s_per_gb"] = cpu / (rate * r.Window.Seconds() / 1e9)
	}
	return values, nil
}
