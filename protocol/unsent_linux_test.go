package protocol

import (
	"net"
	"testing"

	"culvert/internal/rawsock"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

// TestLimitUnsent reads the option back from the sockets below both ends, without and with TLS.
func TestLimitUnsent(t *testing.T) {
	check := func(w *wire, bytes int) {
		t.Helper()
		(&Conn{wire: w}).LimitUnsent(bytes)
		got, err := socketOption(rawsock.TCPOf(w.conn), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		if err != nil || got != bytes {
			t.Errorf("TCP_NOTSENT_LOWAT is %d, %v; want %d", got, err, bytes)
		}
	}
	checked := make(chan struct{}, 2)
	serve := func(ws *websocket.Conn) {
		check(newWire(ws, false), 70_000)
		checked <- struct{}{}
	}
	check(newWire(dialWS(t, listen(t, serve)), true), 80_000)
	check(newWire(dialTLSWS(t, serve), true), 90_000)
	<-checked
	<-checked

	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	(&Conn{wire: &wire{conn: a}}).LimitUnsent(1) // does nothing
	if tcp := rawsock.TCPOf(a); tcp != nil {
		t.Error("there is TCP below a pipe")
	}
}
