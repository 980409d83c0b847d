package clientwatch

import (
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"
)

const patience = 20 * time.Second

// wrapper is a connection that wraps another one.
type wrapper struct{ net.Conn }

func (w wrapper) NetConn() net.Conn { return w.Conn }

// leaver is a connection that is no socket and knows when its peer has left.
type leaver struct {
	net.Conn
	left bool
}

func (l leaver) HasLeft() bool { return l.left }

func TestHasLeft(t *testing.T) {
	near, far := testnet.TCPPair(t, patience)
	if HasLeft(wrapper{near}) {
		t.Error("has left, and is there")
	}
	far.SetLinger(0)
	far.Close()
	testnet.Poll(t, patience, "a reset is noticed", func() bool { return HasLeft(wrapper{near}) })
	piped, other := net.Pipe()
	other.Close()
	for conn, want := range map[net.Conn]bool{
		piped: false, leaver{piped, false}: false, wrapper{leaver{piped, true}}: true,
	} {
		if HasLeft(conn) != want {
			t.Errorf("%#v: has left: %v", conn, !want)
		}
	}
}
