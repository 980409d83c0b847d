//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// earlyClients is the number of clients of each size in the tests of early data.
const earlyClients = 20

// earlySizes are what they send, in bytes: less and more than what a listener buffers during a
// dial.
var earlySizes = []int{60, 16 << 10}

// What a client has sent arrives, and then the reset, if it is reset while its target is still
// being dialed.
func TestNothingIsLostBeforeAResetDuringADial(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil, nil)
	routes := append(w.routes(t), w.runRoute(t), w.postRoute(t))
	always := []string{"--fast-open", "always"}
	for _, r := range append(w.routes(t, always...), w.postRoute(t, always...)) {
		r.name += ", opened at once"
		routes = append(routes, r)
	}
	for _, r := range routes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.resetEarly(t)
		})
	}
}

// ssh loses nothing then either, so the test above doesn't demand the impossible.
func TestPeersLoseNothingBeforeAResetDuringADial(t *testing.T) {
	t.Parallel()
	for _, r := range sshRoutes(t) {
		t.Run(r.name, r.resetEarly)
	}
}

// postRoute returns a route on which the data is the body of an HTTP request. The end of the
// connection may be quiet: a body that is cut short shows by its length.
func (w *world) postRoute(t *testing.T, flags ...string) *route {
	t.Helper()
	r := proxyRoute("HTTP", w.near, w.far, w.startLocal(t, flags...).socks, asking{
		request: func(target string) ([]byte, error) {
			const most = 1 << 20 // more than is sent
			return fmt.Appendf(nil, "POST http://%s/ HTTP/1.1\r\nHost: %[1]s\r\nContent-Length: %d\r\n\r\n",
				target, most), nil
		},
	})
	r.quietEnd, r.http = true, true
	return r
}

// resetEarly resets clients while the targets of the route do not answer yet, and checks what
// arrives once they do.
func (r *route) resetEarly(t *testing.T) {
	var work sync.WaitGroup
	defer work.Wait()
	listeners, targets := make([]*silentListener, len(earlySizes)), make([]string, len(earlySizes))
	for i := range earlySizes {
		listeners[i] = listenSilently(t, r.targets)
		defer listeners[i].Close()
		targets[i] = listeners[i].Addr().String()
	}
	if r.lead != nil {
		r.lead(t, targets)
	}
	for i, size := range earlySizes {
		for range earlyClients {
			work.Go(func() {
				conn, err := r.connectEarly(targets[i], patternBytes(size))
				if err == nil {
					err = errors.Join(awaitSent(conn), reset(conn))
				}
				if err != nil {
					t.Errorf("%d bytes: a client: %v", size, err)
				}
			})
		}
	}
	work.Wait()
	for i, size := range earlySizes {
		outcomes := make(chan outcome, earlyClients)
		listeners[i].answer(t)
		work.Go(func() { r.receiveEarly(listeners[i], outcomes, &work) })
		r.check(t, cutShort{size, earlyClients, byClient}, outcomes)
	}
}

// receiveEarly accepts connections until the listener is closed.
func (r *route) receiveEarly(ln net.Listener, outcomes chan<- outcome, work *sync.WaitGroup) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(cutTime))
			if r.http {
				if head, err := readHead(conn); err != nil || !strings.HasPrefix(head, "POST / ") {
					outcomes <- outcome{-1, errors.Join(err, fmt.Errorf("head %q", head))}
					return
				}
			}
			outcomes <- cutShort{}.receive(conn)
		})
	}
}

// silentListener is a listener that does not answer yet: its queue is full, so that the system
// drops requests for connections (listen(2)), which clients repeat after 1, 3 and 7 s.
type silentListener struct {
	*net.TCPListener
	queued []net.Conn
}

// fillTime is how long a connection may take to be established before the queue counts as full.
const fillTime = 300 * time.Millisecond

func listenSilently(t *testing.T, at place) *silentListener {
	t.Helper()
	l := &silentListener{TCPListener: at.listen(t).(*net.TCPListener)}
	l.setBacklog(t, 0)
	for {
		conn, err := at.dialFor(l.Addr().String(), fillTime)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return l
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		l.queued = append(l.queued, conn)
	}
}

// answer makes the listener accept what comes.
func (l *silentListener) answer(t *testing.T) {
	t.Helper()
	for range l.queued {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	l.setBacklog(t, unix.SOMAXCONN)
}

// setBacklog sets how many connections wait to be accepted, less one.
func (l *silentListener) setBacklog(t *testing.T, n int) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err == nil {
		controlErr := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), n) })
		err = errors.Join(err, controlErr)
	}
	if err != nil {
		t.Fatal(err)
	}
}
