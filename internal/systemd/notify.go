package systemd

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// Notifier reports the life of the process to the service manager. The zero value is ready to use,
// and its methods may be called concurrently.
type Notifier struct {
	// StopTime is how long the process may take to end once it is stopping, if the manager's own
	// limit is less. It is set before Stopping is called; zero asks for nothing.
	StopTime time.Duration

	mu    sync.Mutex // guards ready, and orders what is sent
	ready bool       // the manager knows that the process serves
	over  bool       // another process is the main one now
}

// Ready reports that the process serves, and how in a line for people.
func (n *Notifier) Ready(status string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready = true
	if n.over {
		return nil
	}
	return send("READY=1\nSTATUS=" + status)
}

// Reload reports that the process reloads while reload runs. Before Ready it reports nothing.
func (n *Notifier) Reload(reload func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready && !n.over {
		send("RELOADING=1\n" + monotonicTime())
		defer send("READY=1")
	}
	reload()
}

// Stopping reports that the process is about to end.
func (n *Notifier) Stopping() error {
	text := "STOPPING=1"
	if n.StopTime > 0 {
		text += "\nEXTEND_TIMEOUT_USEC=" + strconv.FormatInt(n.StopTime.Microseconds(), 10)
	}
	return n.send(text)
}

// HandOver reports that another process is the service's main one. From now on nothing more is
// reported.
func (n *Notifier) HandOver(pid int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	return send("MAINPID=" + strconv.Itoa(pid))
}

// send reports something unless another process has become the main one.
func (n *Notifier) send(state string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return nil
	}
	return send(state)
}

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
			err = n.send("WATCHDOG=1")
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
