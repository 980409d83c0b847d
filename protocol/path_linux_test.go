package protocol

import (
	"net"
	"testing"

	"github.com/gorilla/websocket"
)

// TestTransportPath queries a connection that has carried data.
func TestTransportPath(t *testing.T) {
	done := make(chan struct{})
	ws := dialWS(t, listen(t, func(ws *websocket.Conn) {
		if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
			t.Error(err)
		}
		<-done
	}))
	defer close(done)
	w := newWire(ws, true)
	w.limitMessages(100)
	if err := w.readMessage(websocket.TextMessage, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	trip, least, _, window, ok := (&Conn{wire: w}).TransportPath()
	if !ok || trip <= 0 || least <= 0 || least > trip {
		t.Errorf("round trip %v, least %v, %v", trip, least, ok)
	}
	if window == 0 {
		t.Error("no window")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, _, _, ok := (&Conn{wire: &wire{conn: a}}).TransportPath(); ok {
		t.Error("a pipe has told of TCP")
	}
}
