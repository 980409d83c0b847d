package protocol

import (
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"

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

// TestTransportSent writes more than a peer takes that doesn't read, and lets it read then: what it
// has not acknowledged gets less by as much as it acknowledges.
func TestTransportSent(t *testing.T) {
	const timeout = time.Minute
	writer, reader := testnet.TCPPair(t, timeout)
	if err := reader.SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	c := &Conn{wire: &wire{conn: writer}}
	sent := func() (acked, pending uint64) {
		t.Helper()
		acked, pending, last, ok := c.TransportSent()
		if ago := time.Since(last); !ok || ago < 0 || ago > timeout {
			t.Fatalf("acknowledged %v ago, %v", ago, ok)
		}
		return acked, pending
	}
	before, pending := sent()
	if pending != 0 {
		t.Errorf("%d bytes pending before any was written", pending)
	}
	const size = 1 << 20
	if err := writer.SetWriteBuffer(4 * size); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := writer.Write(make([]byte, size))
		written <- err
	}()
	testnet.Poll(t, timeout, "a full buffer", func() bool {
		acked, pending := sent()
		return acked > before && pending > 0
	})
	stuck, _ := sent()
	buf := make([]byte, 64<<10)
	for got := 0; got < size; {
		n, err := reader.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	testnet.Poll(t, timeout, "the last acknowledgement", func() bool {
		_, pending := sent()
		return pending == 0
	})
	if acked, _ := sent(); acked != before+size || acked <= stuck {
		t.Errorf("%d bytes acknowledged of %d, %d while nobody read", acked-before, size, stuck-before)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, _, ok := (&Conn{wire: &wire{conn: a}}).TransportSent(); ok {
		t.Error("a pipe has told of TCP")
	}
}
