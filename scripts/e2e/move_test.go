//go:build linux

package e2e

import (
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/state"
	"culvert/internal/testnet"
)

// TestSessionAge lets a remote move its sessions because of their age, while new connections are
// made all the time: none fails, those that take less than the drain continue, and a longer one is
// reset, for a reason that either end shows.
func TestSessionAge(t *testing.T) {
	t.Parallel()
	echo := testnet.EchoServer(t)
	c := startControlled(t, echo, "--max-session-age", "5s", "--drain-timeout", "5s")
	long := testnet.Dial(t, c.local.forwards[0], bulkTime)
	stop := c.connectAlways()
	var last time.Time // when the long stream worked
	err := testnet.CheckEcho(long, "ping")
	for tick := time.NewTicker(100 * time.Millisecond); err == nil; <-tick.C {
		last = time.Now()
		err = testnet.CheckEcho(long, "ping")
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the long stream has ended with %v, want a reset", err)
	}
	if n := stop(); n == 0 {
		t.Errorf("%d connections meanwhile", n)
	}
	for node, moves := range map[string]string{"remote-1": "age", "laptop": "draining"} {
		testnet.Poll(t, patience, node+" shows what has happened", func() bool {
			return c.event(node, state.EventMoving, moves) != nil &&
				c.event(node, state.EventStreamsCut, "") != nil
		})
	}
	if c.event("laptop", state.EventStreamsCut, "draining") == nil {
		t.Error("the local doesn't know why its stream was cut")
	}
	moved := c.event("laptop", state.EventMoving, "").Time
	if last.Before(moved.Add(time.Second)) {
		t.Errorf("the session has moved at %v, and its stream worked until %v", moved, last)
	}
	if shown := c.run("status", "laptop"); !strings.Contains(shown, state.EventStreamsCut) {
		t.Errorf("culvert status:\n%s", shown)
	}
}

// TestReloadDrains makes all sessions of a remote move by culvert reload --drain. A plain reload
// moves none, and a local has none that could.
func TestReloadDrains(t *testing.T) {
	t.Parallel()
	echo := testnet.EchoServer(t)
	c := startControlled(t, echo, "--drain-timeout", "1m")
	old := testnet.Dial(t, c.local.forwards[0], bulkTime)
	if err := testnet.CheckEcho(old, "ping"); err != nil {
		t.Fatal(err)
	}
	c.run("reload", "remote-1")
	stop := c.connectAlways()
	refused := run(t, patience, c.culvert("reload", "--drain", "laptop"))
	if refused.status != exitFailed || !strings.Contains(refused.stderr, "only a remote") {
		t.Errorf("a local: status %d\n%s", refused.status, refused.stderr)
	}
	if c.event("laptop", state.EventMoving, "") != nil {
		t.Error("a plain reload moves sessions")
	}
	c.run("reload", "--drain", "remote-1")
	testnet.Poll(t, patience, "there are two sessions", func() bool {
		return c.sessionIn("laptop", state.SessionEnding) &&
			c.sessionIn("laptop", state.SessionCarried) &&
			c.event("remote-1", state.EventMoving, "reload") != nil
	})
	if err := testnet.CheckEcho(old, "ping"); err != nil {
		t.Errorf("the old stream: %v", err)
	}
	old.Close()
	testnet.Poll(t, patience, "the old session has ended", func() bool {
		return !c.sessionIn("laptop", state.SessionEnding) &&
			!c.sessionIn("remote-1", state.SessionEnding)
	})
	if n := stop(); n == 0 {
		t.Error("no connections meanwhile")
	}
}

// sessionIn reports whether a node has a session in a state.
func (c *controlled) sessionIn(node, in string) bool {
	c.t.Helper()
	return slices.ContainsFunc(c.state(node).Sessions, func(s state.Session) bool {
		return s.State == in
	})
}

// event returns the first event that a node shows whose reason contains some words, nil for none.
func (c *controlled) event(node, kind, reason string) *state.Event {
	c.t.Helper()
	events := c.state(node).Events
	i := slices.IndexFunc(events, func(e state.Event) bool {
		return e.Kind == kind && strings.Contains(e.Reason, reason)
	})
	if i < 0 {
		return nil
	}
	return &events[i]
}

// connectAlways makes new connections through the forward all the time, each of which lasts for a
// third of a second. None may fail, until the function that it returns is called, which returns
// their number.
func (c *controlled) connectAlways() (stop func() int) {
	var connecting sync.WaitGroup
	n := 0
	halt := always(c.t, 50*time.Millisecond, func() {
		n++
		connecting.Go(c.connectOnce)
	})
	stop = func() int {
		halt()
		connecting.Wait()
		return n
	}
	c.t.Cleanup(func() { stop() })
	return stop
}

// connectOnce makes a connection that works for a while.
func (c *controlled) connectOnce() {
	conn, err := net.DialTimeout("tcp", c.local.forwards[0], patience)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	tick := time.NewTicker(time.Second / 9)
	defer tick.Stop()
	for n := 0; n < 4 && err == nil; <-tick.C {
		err = testnet.CheckEcho(conn, "ping")
		n++
	}
	if err != nil {
		c.t.Errorf("a connection failed: %v", err)
	}
}
