//go:build linux

package e2e

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// lingerTime bounds how long the data of a reset connection is kept for a receiver that doesn't
// read, as culvert's documentation specifies. lingerSlop is the test's margin.
const (
	lingerTime = 30 * time.Second
	lingerSlop = 10 * time.Second
)

// A receiver that reads nothing doesn't hold up a sender that fills the buffers and resets: the
// receiver sees the reset after lingerTime.
func TestResetDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	slowReaders(t, func(t *testing.T, r *route, sender, receiver net.Conn) {
		chunk := make([]byte, 64<<10)
		var err error
		for err == nil {
			sender.SetWriteDeadline(time.Now().Add(time.Second))
			_, err = sender.Write(chunk)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: write to a reader that reads nothing: %v", r.name, err)
			return
		}
		if err := reset(sender); err != nil {
			t.Error(err)
			return
		}
		began := time.Now()
		pollClosed(t, r, receiver, lingerTime+lingerSlop)
		took := time.Since(began)
		if took < lingerTime-time.Second {
			t.Errorf("%s: the reset came after %v", r.name, took)
		}
		t.Logf("%s: the reset came after %v", r.name, took.Round(time.Millisecond))
	})
}

// A receiver that starts to read before lingerTime gets everything, and then the reset.
func TestResetWaitsForASlowReader(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	slowReaders(t, func(t *testing.T, r *route, sender, receiver net.Conn) {
		c := cutShort{bytes: size}
		if err := c.send(sender); err != nil {
			t.Errorf("%s: %v", r.name, err)
			return
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for deadline := time.Now().Add(lingerTime / 2); time.Now().Before(deadline); <-tick.C {
			if info, err := tcpInfo(receiver); err != nil || info.State == tcpClosed {
				t.Errorf("%s: the reset came before the data, %v", r.name, err)
				return
			}
		}
		o := c.receive(receiver)
		if o.bytes != size || !isReset(o.err) {
			t.Errorf("%s: received %d bytes of %d, then %v", r.name, o.bytes, size, o.err)
		}
	})
}

// slowReaders calls do concurrently with the ends of connections over several routes, with each end
// as the sender.
func slowReaders(t *testing.T, do func(t *testing.T, r *route, sender, receiver net.Conn)) {
	t.Helper()
	w := startWorld(t, nil, nil)
	var doing sync.WaitGroup
	defer doing.Wait()
	for _, r := range w.routes(t) {
		ln := r.targets.listen(t)
		if r.lead != nil {
			r.lead(t, []string{ln.Addr().String()})
		}
		for _, byClient := range []bool{true, false} {
			client, target := r.pair(t, ln)
			sender, receiver := client, target
			if !byClient {
				sender, receiver = target, client
			}
			doing.Go(func() { do(t, r, sender, receiver) })
		}
	}
}

// pollClosed waits until the kernel has closed a connection.
func pollClosed(t *testing.T, r *route, conn net.Conn, timeout time.Duration) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); <-tick.C {
		if info, err := tcpInfo(conn); err != nil || info.State == tcpClosed {
			return
		}
	}
	t.Errorf("%s: the connection is not over after %v", r.name, timeout)
}
