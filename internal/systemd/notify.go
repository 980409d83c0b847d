package systemd

import (
	"context"
	"sync"
	"time"
)

// Notifier reports the life of the process to the service manager. The zero value is ready to use,
// and its methods may be called concurrently.
type Notifier struct {
	mu    sync.Mutex // guards ready, and orders what is sent
	ready bool       // the manager knows that the process serves
}

// Ready reports that the process serves, and how in a line for people.
func (n *Notifier) Ready(status string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready = true
	return send("READY=1\nSTATUS=" + status)
}

// Reload reports that the process reloads while reload runs. Before Ready it reports nothing.
func (n *Notifier) Reload(reload func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready {
		send("RELOADING=1\n" + monotonicTime())
		defer send("READY=1")
	}
	reload()
}

// Stopping reports that the process is about to end.
func (n *Notifier) Stopping() error { return send("STOPPING=1") }

// Watch feeds the manager's watchdog until ctx is done. It calls check three times within the
// watchdog's time, and feeds it only if that returns nil. It hands what goes wrong to failed, and
// returns at once if there is no watchdog.
func (n *Notifier) Watch(
	ctx context.Context, check func(context.Context) error, failed func(error),
) {
	limit, err := watchdogTime()
	if err != nil {
		failed(err)
	}
	if limit <= 0 {
		return
	}
	period := max(limit/3, time.Millisecond)
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		err := checkWithin(ctx, period, check)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = send("WATCHDOG=1")
		}
		if err != nil {
			failed(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func checkWithin(
	ctx context.Context, limit time.Duration, check func(context.Context) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return check(ctx)
}
