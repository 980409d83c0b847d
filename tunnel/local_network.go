package tunnel

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// watchNetwork reacts to changes of this machine's addresses and routes, until ctx is done or stop
// is called.
func (l *Local) watchNetwork(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	notices := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() { l.noticeNetwork(ctx, notices) })
	watching.Go(func() { settle(ctx, notices, l.networkChanged) })
	return func() {
		cancel()
		watching.Wait()
	}
}

// noticeNetwork leaves a notice whenever the machine's network has changed, until ctx is done.
func noticeNetwork(ctx context.Context, notices chan<- struct{}) {
	if !notifyNetwork(ctx, notices) {
		pollNetwork(ctx, notices, networkState)
	}
}

// networkChanged replaces a carrier whose path is gone, and probes one whose path may be another
// now. Whoever makes an attempt to connect, or waits for the next, is told.
func (l *Local) networkChanged() {
	for _, conn := range l.connections() {
		if err := conn.path.check(); err != nil {
			conn.session.DropCarrier(conn.carrier, err)
		} else {
			conn.session.Probe()
		}
	}
	l.tellSeeking(func(a *localAttempts) { notify(a.moved) })
}

// notify leaves a token in a channel with room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// settle calls act at the first of a burst of notices, and then once for all that came within
// networkSettle: one change of the network makes many, and the last of them may be the one that
// matters. It returns when ctx is done.
func settle(ctx context.Context, notices <-chan struct{}, act func()) {
	for {
		select {
		case <-notices:
		case <-ctx.Done():
			return
		}
		act()
		if !sleep(ctx, networkSettle) {
			return
		}
	}
}

// pollNetwork leaves a notice each time that state has changed, for systems that give none. It
// returns when ctx is done.
func pollNetwork(ctx context.Context, notices chan<- struct{}, state func() string) {
	ticker := time.NewTicker(networkPoll)
	defer ticker.Stop()
	last := state()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := state(); now != last {
			last = now
			notify(notices)
		}
	}
}

// networkState describes the machine's addresses. A change of routes alone does not show in it.
func networkState() string {
	addresses, err := net.InterfaceAddrs()
	return fmt.Sprint(addresses, err)
}
