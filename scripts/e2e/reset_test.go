//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet/link"

	"golang.org/x/sys/unix"
)

// cutShort describes a number of connections, on each of which one side sends so many bytes and
// resets.
type cutShort struct {
	bytes, connections int
	by                 sender
}

// sender selects the side that sends and resets.
type sender uint8

const (
	byClient       sender = iota
	byTarget              // once the client has requested it with a byte
	byTargetAtOnce        // before it has read anything
)

func (c cutShort) String() string {
	return fmt.Sprintf("%d bytes from the %s", c.bytes,
		[]string{"client", "target", "target at once"}[c.by])
}

// bothWays returns the case for both directions.
func bothWays(bytes, connections int) []cutShort {
	return []cutShort{{bytes, connections, byClient}, {bytes, connections, byTarget}}
}

// cutAtOnce is how many connections of a case are open at a time, and cutTime bounds a case.
const (
	cutAtOnce = 32
	cutTime   = 2 * time.Minute
)

// What either side sends before it resets arrives, followed by the reset, through every listener.
func TestNothingIsLostBeforeAReset(t *testing.T) {
	t.Parallel()
	cases := []cutShort{{60, 1000, byTargetAtOnce}}
	for bytes, connections := range map[int]int{1: 200, 60: 1000, 64 << 10: 100, 1 << 20: 16} {
		cases = append(cases, bothWays(bytes, connections)...)
	}
	w := startWorld(t, nil, nil)
	for _, r := range append(w.routes(t), w.runRoute(t)) {
		t.Run(r.name, func(t *testing.T) { r.cutAll(t, cases) })
	}
}

// The same holds over a slow path of 250 KB/s with a round trip of 80 ms.
func TestNothingIsLostBeforeAResetOnASlowPath(t *testing.T) {
	t.Parallel()
	needRoot(t, "it makes network namespaces")
	needProgram(t, "ip")
	cases := append(append(bothWays(60, 1000), bothWays(64<<10, 20)...), bothWays(1<<20, 1)...)
	for i, name := range []string{"-L", "-R", "SOCKS", "CONNECT", "-R socks"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := link.New(link.Config{Delay: 40 * time.Millisecond, Rate: 250e3 * 8})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			w := startWorld(t, &host{name: l.A.Namespace, addr: l.A.Addr},
				&host{name: l.B.Namespace, addr: l.B.Addr})
			r := w.routes(t)[i]
			if r.name != name {
				t.Fatalf("route %d is %s", i, r.name)
			}
			r.cutAll(t, cases)
		})
	}
}

// Comparable programs lose nothing either, nor does a direct connection, so the tests above don't
// demand the impossible. They leave out a target that resets at once, before connect(2) returns in
// these programs, which then fail.
func TestPeersLoseNothingBeforeAReset(t *testing.T) {
	t.Parallel()
	cases := append(bothWays(60, 200), bothWays(64<<10, 20)...)
	for _, r := range append(sshRoutes(t), danteRoute(t), directRoute()) {
		t.Run(r.name, func(t *testing.T) { r.cutAll(t, cases) })
	}
}

// cutAll runs the cases, each with a target of its own.
func (r *route) cutAll(t *testing.T, cases []cutShort) {
	t.Helper()
	listeners, targets := make([]net.Listener, len(cases)), make([]string, len(cases))
	for i := range cases {
		listeners[i] = r.targets.listen(t)
		targets[i] = listeners[i].Addr().String()
	}
	if r.lead != nil {
		r.lead(t, targets)
	}
	for i, c := range cases {
		began := time.Now()
		r.cut(t, c, listeners[i])
		t.Logf("%v: %d connections in %v", c, c.connections, time.Since(began).Round(time.Millisecond))
	}
}

// cut runs a case, and checks what arrived.
func (r *route) cut(t *testing.T, c cutShort, ln net.Listener) {
	t.Helper()
	var work sync.WaitGroup
	defer work.Wait()
	defer ln.Close()
	outcomes := make(chan outcome, c.connections)
	use := func(conn net.Conn, isClient bool) {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(cutTime))
		if isClient != (c.by == byClient) {
			outcomes <- c.receive(conn)
		} else if err := c.send(conn); err != nil {
			t.Errorf("%v: the sender: %v", c, err)
		}
	}
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			work.Go(func() { use(conn, false) })
		}
	})
	places := make(chan struct{}, cutAtOnce)
	for range c.connections {
		work.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			conn, err := r.connect(ln.Addr().String())
			if err != nil {
				outcomes <- outcome{-1, err}
				return
			}
			use(conn, true)
		})
	}
	r.check(t, c, outcomes)
}

// check waits for the outcomes of a case and checks them.
func (r *route) check(t *testing.T, c cutShort, outcomes <-chan outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cutTime)
	defer cancel()
	short, otherEnds := 0, make(map[string]int)
	for i := range c.connections {
		select {
		case o := <-outcomes:
			if o.bytes != c.bytes {
				short++
			}
			if !isReset(o.err) && !(r.quietEnd && o.err == nil) {
				otherEnds[fmt.Sprint(o.err)]++
			}
		case <-ctx.Done():
			t.Fatalf("%v: only %d of %d connections have ended", c, i, c.connections)
		}
	}
	if short > 0 || len(otherEnds) > 0 {
		t.Errorf("%v: short on %d of %d connections; ends other than a reset: %v",
			c, short, c.connections, otherEnds)
	}
}

// outcome is what the receiving end of a connection got.
type outcome struct {
	bytes int   // -1 when there was no connection
	err   error // nil after an end of file
}

// patternByte returns the byte at an offset of the data that is sent.
func patternByte(offset int) byte { return byte(offset ^ offset>>8 ^ offset>>16) }

func patternBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = patternByte(i)
	}
	return b
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// receive is the receiving side.
func (c cutShort) receive(conn net.Conn) outcome {
	if c.by == byTarget {
		if _, err := conn.Write([]byte{0}); err != nil {
			return outcome{0, err}
		}
	}
	buf, n := make([]byte, 64<<10), 0
	for {
		got, err := conn.Read(buf)
		for _, b := range buf[:got] {
			if b != patternByte(n) {
				return outcome{n, fmt.Errorf("byte %d is %#x, not %#x", n, b, patternByte(n))}
			}
			n++
		}
		switch {
		case errors.Is(err, io.EOF):
			return outcome{n, nil}
		case err != nil:
			return outcome{n, err}
		}
	}
}

// send is the sending side. It resets the connection once the other end's kernel has acknowledged
// everything.
func (c cutShort) send(conn net.Conn) error {
	if c.by == byTarget {
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return err
		}
	}
	if _, err := conn.Write(patternBytes(c.bytes)); err != nil {
		return err
	}
	if err := awaitSent(conn); err != nil {
		return err
	}
	return reset(conn)
}

// reset closes a connection with a reset.
func reset(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errNotTCP
	}
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

// awaitSent waits until the other end's kernel has acknowledged everything that was written.
func awaitSent(conn net.Conn) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(cutTime); ; <-tick.C {
		info, err := tcpInfo(conn)
		switch {
		case err != nil:
			return err
		case info.Notsent_bytes == 0 && info.Unacked == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d segments not acknowledged", info.Unacked)
		}
	}
}

// tcpInfo returns the kernel's state of a connection.
func tcpInfo(conn net.Conn) (info *unix.TCPInfo, err error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errNotTCP
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return info, errors.Join(controlErr, err)
}
