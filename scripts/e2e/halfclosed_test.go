//go:build linux

package e2e

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"culvert/internal/testnet"
)

// tcpClosed is the state of a closed connection (TCP_CLOSE in the kernel's tcp_states.h).
const tcpClosed = 7

// halfClosed is an idle connection of which one end has closed its half.
type halfClosed struct {
	route          *route
	client, target net.Conn
	byClient       bool
}

// open opens a connection over the route and closes one half of it.
func (r *route) open(t *testing.T, ln net.Listener, byClient bool) *halfClosed {
	t.Helper()
	client, target := r.pair(t, ln)
	h := &halfClosed{r, client, target, byClient}
	closing, other := h.ends()
	if err := closing.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	if n, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%s: read %d bytes, %v after a half-close", r.name, n, err)
	}
	return h
}

// ends returns the end that has closed its half, and the other.
func (h *halfClosed) ends() (closing, other net.Conn) {
	if h.byClient {
		return h.client, h.target
	}
	return h.target, h.client
}

func (h *halfClosed) String() string {
	if h.byClient {
		return h.route.name + ", half-closed by the client"
	}
	return h.route.name + ", half-closed by the target"
}

// awaitClosed waits until the kernel has closed a connection, although nothing is sent on it.
func (h *halfClosed) awaitClosed(t *testing.T, conn net.Conn, end string) {
	t.Helper()
	testnet.Poll(t, patience, h.String()+": the connection of the "+end+" is over", func() bool {
		info, err := tcpInfo(conn)
		return err != nil || info.State == tcpClosed
	})
}

// openHalves opens connections over each route, half-closed by either end.
func openHalves(t *testing.T, routes []*route) (all []*halfClosed) {
	t.Helper()
	for _, r := range routes {
		ln := r.targets.listen(t)
		if r.lead != nil {
			r.lead(t, []string{ln.Addr().String()})
		}
		for _, byClient := range []bool{true, false} {
			all = append(all, r.open(t, ln, byClient))
		}
	}
	return all
}

// Idle half-closed connections end with their session, whatever ends it: the kernel closes both the
// client's and the target's.
func TestHalfClosedEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, w *world){
		"local terminated": func(t *testing.T, w *world) {
			for _, local := range w.locals {
				local.signal(syscall.SIGTERM)
			}
			for _, p := range w.runs { // which forwards it to its command
				p.signal(syscall.SIGTERM)
			}
		},
		"remote terminated": func(t *testing.T, w *world) { w.remote.signal(syscall.SIGTERM) },
		"key removed": func(t *testing.T, w *world) {
			rewrite(t, w.authorized, newIdentity(t).key+"\n")
			w.remote.signal(syscall.SIGUSR1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, nil, nil)
			all := openHalves(t, append(w.routes(t), w.runRoute(t)))
			end(t, w)
			for _, h := range all {
				h.awaitClosed(t, h.client, "client")
				h.awaitClosed(t, h.target, "target")
			}
			if name != "remote terminated" { // then they reconnect
				for _, local := range w.locals {
					local.wait(stopTime)
				}
			}
			if name == "local terminated" {
				for _, p := range w.runs {
					p.wait(stopTime)
				}
			}
		})
	}
}

// When a restarted remote replaces one that was killed, local closes the half-closed connections of
// the lost session.
func TestHalfClosedEndsWithALostRemote(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil, nil)
	all := openHalves(t, append(w.routes(t), w.runRoute(t)))
	w.remote.kill()
	w.startRemote(t, w.remote.listen[0])
	for _, h := range all {
		if h.route.reverse {
			h.awaitClosed(t, h.target, "target")
		} else {
			h.awaitClosed(t, h.client, "client")
		}
	}
}

// A reset after an end of file reaches the other end of an idle connection, through every listener,
// as it does without a tunnel.
func TestResetAfterEndOfFile(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil, nil)
	routes := append(w.routes(t), w.runRoute(t), directRoute())
	first, second := openHalves(t, routes), openHalves(t, routes)
	for i, h := range first {
		closing, _ := h.ends()
		_, other := second[i].ends()
		if err := errors.Join(reset(closing), reset(other)); err != nil {
			t.Fatal(err)
		}
	}
	for i, h := range first {
		_, other := h.ends()
		h.awaitClosed(t, other, "end that is still open")
		closing, _ := second[i].ends()
		second[i].awaitClosed(t, closing, "end that has closed its half")
	}
}
