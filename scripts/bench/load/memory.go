package load

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"culvert/scripts/bench/proc"
)

// memory measures what memory the processes keep after a load: for the warm-up, the request's
// streams download slowly, then 4 streams download and 4 upload half of its bytes each. The largest
// resident set of a process is measured then, and again after the window: peak_mb and end_mb.
func memory(ctx context.Context, r Request) (Values, error) {
	if err := slowDownloads(ctx, r); err != nil {
		return nil, err
	}
	for _, up := range []bool{false, true} {
		half := r
		half.Up, half.Bytes = up, r.Bytes/2
		if _, err := transfer(ctx, half, 4); err != nil {
			return nil, err
		}
	}
	peak := proc.Resident(r.PIDs...)
	if err := wait(ctx, r.Window); err != nil {
		return nil, err
	}
	return Values{"peak_mb": peak / 1e6, "end_mb": proc.Resident(r.PIDs...) / 1e6}, nil
}

// transfer moves the request's bytes over some new connections, and returns how long that took.
func transfer(ctx context.Context, r Request, streams int) (time.Duration, error) {
	b, err := startBulk(ctx, r, streams)
	if err != nil {
		return 0, err
	}
	defer b.stop()
	for b.moved() < r.Bytes {
		if err := wait(ctx, transferPause); err != nil {
			return 0, err
		}
		if b.broken.Load() > 0 {
			return 0, errors.New("a connection broke")
		}
	}
	return time.Since(b.began), nil
}

// slowDownloads reads slowly from the request's streams for its warm-up.
func slowDownloads(ctx context.Context, r Request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := time.Now().Add(r.Warmup)
	var reading sync.WaitGroup
	for range r.Streams {
		reading.Go(func() {
			conn, err := r.open(ctx, download)
			if err != nil {
				cancel(err)
				return
			}
			defer conn.Close()
			buffer := make([]byte, slowPiece)
			for ctx.Err() == nil && time.Now().Before(end) {
				conn.SetDeadline(time.Now().Add(dialTime))
				if _, err := io.ReadFull(conn, buffer); err != nil {
					cancel(err)
					return
				}
				wait(ctx, slowPause)
			}
		})
	}
	reading.Wait()
	return context.Cause(ctx)
}
