package protocol

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// closeBoth ends both connections without a close frame, and waits for neither peer.
func closeBoth(a, b *Conn) {
	a.wire.end(ErrClosed)
	b.wire.end(ErrClosed)
}

// TestCloseUnblocksRead closes while a read is pending, on either end.
func TestCloseUnblocksRead(t *testing.T) {
	for _, fromServer := range []bool{false, true} {
		from, to := connectTCP(t, newParties(t, Version1, false))
		if fromServer {
			from, to = to, from
		}
		blocked, told := make(chan error, 1), make(chan error, 1)
		go func() { _, err := from.ReadRecord(nil); blocked <- err }()
		go func() { told <- readUntilError(t, to) }()
		if err := from.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-blocked; !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("the blocked read returns %v, want ErrClosed", err)
		}
		var closed *PeerClosedError
		if err := <-told; !errors.As(err, &closed) || !errors.Is(err, io.EOF) {
			t.Errorf("the peer gets %v, want a planned close", err)
		}
		if err := from.Close(); err != nil {
			t.Errorf("the second close returns %v", err)
		}
		if err := from.WriteRecords(nil); err != ErrClosed {
			t.Errorf("a write returns %v, want ErrClosed", err)
		}
		if err := from.SetReadDeadline(time.Time{}); err != ErrClosed {
			t.Errorf("a deadline returns %v, want ErrClosed", err)
		}
	}
}

// TestCloseUnblocksWrite closes while a write is blocked by a peer that does not read.
func TestCloseUnblocksWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		blocked := make(chan error, 1)
		go func() { blocked <- client.WriteRecords(make([]byte, 1000)) }()
		synctest.Wait()
		begin := time.Now()
		client.Close()
		if took := time.Since(begin); took > 2*closeTimeout {
			t.Errorf("closing took %v", took)
		}
		if err := <-blocked; !errors.Is(err, ErrClosed) {
			t.Errorf("the blocked write returns %v, want ErrClosed", err)
		}
		closeBoth(client, server)
	})
}

// TestCloseIsBounded closes a connection whose peer never reads.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		begin := time.Now()
		client.CloseWith(CloseInternal, "")
		if took := time.Since(begin); took > 2*closeTimeout {
			t.Errorf("closing took %v", took)
		}
		closeBoth(client, server)
	})
}

// TestCloseOverTLSIsBounded: as TestCloseIsBounded, where TLS would take five seconds for its own
// end.
func TestCloseOverTLSIsBounded(t *testing.T) {
	for name, end := range map[string]func(*Conn){
		"close": func(c *Conn) { c.CloseWith(CloseInternal, "") },
		"end":   func(c *Conn) { c.wire.end(ErrClosed) },
	} {
		client, server := connectTLS(t, newParties(t, Version1, false))
		socket := client.wire.conn.(*tls.Conn).NetConn()
		for { // until nothing more goes into the socket, which nobody reads
			socket.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := socket.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		socket.SetWriteDeadline(time.Time{})
		begin := time.Now()
		end(client)
		if took := time.Since(begin); took > 2*closeTimeout+time.Second {
			t.Errorf("%s took %v", name, took)
		}
		server.wire.conn.(*tls.Conn).NetConn().Close()
	}
}

// TestCloseWaitsForPeer closes, while a read is pending, a connection whose peer reads the close
// frame and keeps its side open: the socket must stay open until the peer closes or its time is up.
func TestCloseWaitsForPeer(t *testing.T) {
	for _, answer := range []time.Duration{closeTimeout / 4, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			client, server := connectPipe(t, newParties(t, Version1, false))
			half := &halfCloser{Conn: client.wire.conn}
			client.wire.conn = half
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = client.ReadRecord(nil) })
			wg.Go(func() {
				// One read, since a pipe's read returns one write.
				if _, err := server.wire.conn.Read(make([]byte, 200)); err != nil {
					t.Error(err)
				}
				time.Sleep(answer)
				server.wire.conn.Close()
			})
			synctest.Wait()
			begin := time.Now()
			client.Close()
			if took, want := time.Since(begin), min(answer, closeTimeout); took != want {
				t.Errorf("closing took %v, want %v", took, want)
			}
			if !half.closed {
				t.Error("the connection was not half-closed")
			}
			wg.Wait()
		})
	}
}

// halfCloser records that its half was closed, which a pipe does not support.
type halfCloser struct {
	net.Conn
	closed bool
}

func (c *halfCloser) CloseWrite() error {
	c.closed = true
	return nil
}

// TestCloseDoesNotReset closes an end with unread data. The peer must see an end of file, not a
// reset, which could overtake the close frame.
func TestCloseDoesNotReset(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	if err := client.WriteRecords(make([]byte, 1<<16)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- server.CloseWith(CloseNotAdmitted, "") }()
	raw := client.wire.conn
	if err := raw.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(raw)
	if err != nil || !bytes.HasSuffix(got, []byte(CloseNotAdmitted.String())) {
		t.Errorf("got %q, %v, want a close frame and the end", got, err)
	}
	raw.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestCloseWithArrives closes with reasons of several kinds while records are in transit to the end
// that closes.
func TestCloseWithArrives(t *testing.T) {
	long := strings.Repeat("é", 100)
	tests := []struct {
		code         CloseCode
		reason, want string
	}{
		{CloseNotAdmitted, "", "not admitted"},
		{4450, "draining", "draining"},
		{4499, long, long[:maxCloseReason/2*2]},
	}
	for _, tt := range tests {
		client, server := connectTCP(t, newParties(t, Version1, false))
		for range 50 {
			if err := client.WriteRecords(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		told := make(chan error, 1)
		go func() { told <- readUntilError(t, client) }()
		if err := server.CloseWith(tt.code, tt.reason); err != nil {
			t.Fatal(err)
		}
		err := <-told
		wantRefused(t, err, tt.code)
		var refused *RefusedError
		errors.As(err, &refused)
		if refused.Reason != tt.want || !utf8.ValidString(refused.Reason) {
			t.Errorf("got the reason %q, want %q", refused.Reason, tt.want)
		}
	}
}

func TestCloseWithForeignCode(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	for _, code := range []CloseCode{0, 1000, 4399, 4500} {
		if err := client.CloseWith(code, ""); err == nil {
			t.Errorf("code %d: no error", code)
		}
	}
	greet(t, client, server)
}

// TestAbruptEnd ends the peer's TCP connection without a close frame, between records and within
// one.
func TestAbruptEnd(t *testing.T) {
	for _, half := range []bool{false, true} {
		client, server := connectTCP(t, newParties(t, Version1, false))
		if half {
			b := frame{final: true, opcode: websocket.BinaryMessage, mask: &testMask,
				payload: pattern(100)}.append(nil)
			if _, err := client.wire.conn.Write(b[:50]); err != nil {
				t.Fatal(err)
			}
		}
		client.wire.conn.Close()
		err := readUntilError(t, server)
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
		}
	}
}

func TestDeadlinesEndConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		if err := server.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err := server.ReadRecord(nil)
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) ||
			time.Since(begin) != time.Minute {
			t.Errorf("after %v: got %v, want ErrTimeout", time.Since(begin), err)
		}
		if _, again := server.ReadRecord(nil); again != err {
			t.Errorf("the second read returns %v, want the first error", again)
		}
		closeBoth(client, server)
	})
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		if err := client.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err := client.WriteRecords(make([]byte, 10))
		if !errors.Is(err, ErrTimeout) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: got %v, want ErrTimeout", time.Since(begin), err)
		}
		if _, again := client.ReadRecord(nil); again != err {
			t.Errorf("a read returns %v, want the first error", again)
		}
		closeBoth(client, server)
	})
}
