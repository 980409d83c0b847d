//go:build unix

package takeover

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"culvert/internal/testnet"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// connected returns the ends of a connection.
func connected(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialed.(*net.UnixConn), accepted.(*net.UnixConn)
}

// TestClaimBeforeState: a handshake that ends while the state is still being made is asked about
// once the new process has that.
func TestClaimBeforeState(t *testing.T) {
	t.Parallel()
	old, other := connected(t)
	claimed, gave := make(chan bool, 1), make(chan error, 1)
	go func() {
		gave <- Give(t.Context(), old, Old{
			Offer: Offer{Version: Version},
			HandOver: func(g *Giver) State {
				go func() { claimed <- g.Claim(1) }()
				testnet.Poll(t, patience, "the claim waits", func() bool {
					g.mu.Lock()
					defer g.mu.Unlock()
					return len(g.claims) == 1
				})
				return State{}
			},
			TakeBack: func() { t.Error("taken back") },
			Release:  func() {},
			Drain:    func() {},
		})
	}()
	taker, err := Take(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := taker.Begin(); err != nil {
		t.Error(err)
	}
	taker.Follow(func(pair uint64) bool { return pair == 1 })
	if err := taker.Serving(); err != nil {
		t.Error(err)
	}
	if !<-claimed {
		t.Error("the claim was refused")
	}
	taker.Close()
	<-gave // how the new process ended
}

// TestChannelOfStoppedProcess: a process that takes nothing is taken for dead, so that nothing
// waits for it again.
func TestChannelOfStoppedProcess(t *testing.T) {
	t.Parallel()
	here, there := connected(t)
	defer there.Close()
	c := channel{conn: here}
	message := make([]byte, 1<<20)
	began := time.Now()
	for time.Since(began) < 2*writeTimeout {
		if err := c.send(claim, message); err != nil {
			break
		}
	}
	if _, err := here.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still open after %v: %v", time.Since(began), err)
	}
}
