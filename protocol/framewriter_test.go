package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/rawsock"

	"github.com/gorilla/websocket"
)

// TestHalfPongEndsConnection pings an end, reads part of the pong and then nothing for longer than
// a pong may take. The connection must end there: the peer would take further bytes for the rest of
// the pong. The reader writes the pong, or a writer that was busy when the ping arrived.
func TestHalfPongEndsConnection(t *testing.T) {
	for _, isClient := range []bool{true, false} {
		for _, byWriter := range []bool{false, true} {
			t.Run(fmt.Sprintf("client=%v,writer=%v", isClient, byWriter), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testHalfPong(t, isClient, byWriter) })
			})
		}
	}
}

func testHalfPong(t *testing.T, isClient, byWriter bool) {
	end, peer := connectPipe(t, newParties(t, Version1, false))
	if !isClient {
		end, peer = peer, end
		end.mayWrite.Store(true)
	}
	defer closeBoth(end, peer)
	raw := peer.wire.conn // which reads no more than the test does
	if err := end.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	read, written := make(chan error, 1), make(chan error, 1)
	go func() { _, err := end.ReadRecord(nil); read <- err }()
	payload := []byte("a payload")
	record := maxFrameHeader + len(payload) + end.overhead // as long as its frame, or longer
	if byWriter {
		go func() { written <- end.WriteRecords(payload) }()
		synctest.Wait()
	}
	if err := peer.wire.writeMessage(websocket.PingMessage, []byte("are you there?")); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if byWriter { // a pipe's read returns one write
		if _, err := raw.Read(make([]byte, record)); err != nil {
			t.Fatal(err)
		}
	}
	part := make([]byte, 3)
	if _, err := io.ReadFull(raw, part); err != nil || part[0] != frameFinal|websocket.PongMessage {
		t.Fatalf("got %x, %v, want the beginning of a pong", part, err)
	}
	time.Sleep(pongTimeout + time.Second) // in a synctest bubble: the peer doesn't read

	if !byWriter {
		go func() { written <- end.WriteRecords(payload) }()
	}
	rest, err := io.ReadAll(raw)
	if err != nil || len(rest) > 0 {
		t.Errorf("after part of a pong came %x, %v; want the end of the connection", rest, err)
	}
	for call, err := range map[string]error{"read": <-read, "write": <-written} {
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("the %s returns %v, want ErrTimeout", call, err)
		}
	}
}

// TestPongFailsAfterClose pings an end that can't write, and then closes with a reason. The pongs
// fail, but reads and writes return the reason.
func TestPongFailsAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		defer closeBoth(client, server)
		broken := errors.New("broken pipe")
		client.wire.out.writer = rawsock.NewWriter(&shortConn{Conn: client.wire.conn, err: broken})
		read := make(chan error, 1)
		go func() { _, err := client.ReadRecord(nil); read <- err }()
		for range 3 {
			if err := server.wire.writeMessage(websocket.PingMessage, nil); err != nil {
				t.Fatal(err)
			}
		}
		written := make(chan error, 1)
		go func() { written <- client.WriteRecords(nil) }()
		message := websocket.FormatCloseMessage(int(CloseNotAdmitted), "")
		if err := server.wire.out.writeClose(message, testTimeout); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, <-read, CloseNotAdmitted)
		wantRefused(t, <-written, CloseNotAdmitted)
	})
}

// TestPongFailsForGood keeps pinging an end that can't write: the connection ends in a bounded
// time, with the error of the write.
func TestPongFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		broken := errors.New("broken pipe")
		client.wire.out.writer = rawsock.NewWriter(&shortConn{Conn: client.wire.conn, err: broken})
		var pinging sync.WaitGroup
		pinging.Go(func() {
			for server.wire.writeMessage(websocket.PingMessage, nil) == nil {
				time.Sleep(closeTimeout / 4) // in a synctest bubble
			}
		})
		begin := time.Now()
		if _, err := client.ReadRecord(nil); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		if took := time.Since(begin); took > 2*closeTimeout {
			t.Errorf("it took %v", took)
		}
		closeBoth(client, server)
		pinging.Wait()
	})
}

// shortConn accepts n bytes, and then fails.
type shortConn struct {
	net.Conn
	n   int
	err error
	got bytes.Buffer
}

func (c *shortConn) SetWriteDeadline(time.Time) error { return nil }

func (c *shortConn) Write(p []byte) (int, error) {
	n := min(len(p), c.n)
	c.got.Write(p[:n])
	if c.n -= n; n < len(p) {
		return n, c.err
	}
	return n, nil
}

// frameWrites are the ways to write a frame of ten bytes of payload.
var frameWrites = map[string]func(*frameWriter) error{
	"message": func(w *frameWriter) error {
		return w.writeFrames(appendFrame(nil, websocket.BinaryMessage, pattern(10), w.masked))
	},
	"pong":  func(w *frameWriter) error { return w.pong(pattern(10)) },
	"close": func(w *frameWriter) error { return w.writeClose(pattern(10), testTimeout) },
}

// TestNothingFollowsPartOfFrame cuts each kind of frame short, and then writes each kind.
func TestNothingFollowsPartOfFrame(t *testing.T) {
	for cut, first := range frameWrites {
		for name, next := range frameWrites {
			for _, isClient := range []bool{true, false} {
				conn := &shortConn{n: 5, err: errors.New("cut short")}
				w := newFrameWriter(conn, isClient)
				if err := first(w); err != conn.err {
					t.Fatalf("%s cut short: got %v", cut, err)
				}
				conn.n = 1000 // it could go on
				for range 2 {
					if err := next(w); err != conn.err {
						t.Errorf("%s after part of a %s: got %v, want the first error", name, cut,
							err)
					}
				}
				if conn.got.Len() != 5 {
					t.Errorf("%s after part of a %s: %d bytes were written", name, cut,
						conn.got.Len())
				}
			}
		}
	}
}

// TestNothingFollowsClose writes each kind of frame after the close frame (RFC 6455, section
// 5.5.1). A ping is not answered then, which is not an error.
func TestNothingFollowsClose(t *testing.T) {
	for name, next := range frameWrites {
		conn := &shortConn{n: 1000}
		w := newFrameWriter(conn, true)
		if err := w.writeClose(nil, testTimeout); err != nil {
			t.Fatal(err)
		}
		size := conn.got.Len()
		want := errCloseSent
		if name == "pong" {
			want = nil
		}
		if err := next(w); err != want {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
		if conn.got.Len() != size {
			t.Errorf("%s: %d bytes follow the close frame", name, conn.got.Len()-size)
		}
	}
}

// handedConn passes each write to the test, and blocks until the test takes it.
type handedConn struct {
	net.Conn
	writes chan []byte
}

func (c handedConn) SetWriteDeadline(time.Time) error { return nil }

func (c handedConn) Write(p []byte) (int, error) {
	c.writes <- bytes.Clone(p)
	return len(p), nil
}

// TestPongPassesWaitingWriters receives a ping while one message is being written and more are
// waiting: the pong is next.
func TestPongPassesWaitingWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := handedConn{writes: make(chan []byte)}
		w := newFrameWriter(conn, false)
		var writers sync.WaitGroup
		for range 3 {
			writers.Go(func() {
				if err := frameWrites["message"](w); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := w.pong([]byte("p")); err != nil { // which doesn't wait
			t.Fatal(err)
		}
		var opcodes []byte
		for range 4 {
			opcodes = append(opcodes, (<-conn.writes)[0]&frameOpcode)
		}
		want := []byte{websocket.BinaryMessage, websocket.PongMessage, websocket.BinaryMessage,
			websocket.BinaryMessage}
		if !bytes.Equal(opcodes, want) {
			t.Errorf("the opcodes are %v, want %v", opcodes, want)
		}
		writers.Wait()
	})
}

// TestCloseWaitsForTurn writes the close frame while a writer is busy: one that finishes in time,
// and one that does not, after which nothing may be written.
func TestCloseWaitsForTurn(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			conn := handedConn{writes: make(chan []byte)}
			w := newFrameWriter(conn, false)
			written, closed := make(chan error, 1), make(chan error, 1)
			go func() { written <- frameWrites["message"](w) }()
			synctest.Wait()
			go func() { closed <- w.writeClose(nil, closeTimeout) }()
			if stuck {
				if err := <-closed; !errors.Is(err, ErrTimeout) {
					t.Errorf("got %v, want ErrTimeout", err)
				}
				<-conn.writes
			} else {
				<-conn.writes
				if b := <-conn.writes; b[0] != frameFinal|websocket.CloseMessage {
					t.Errorf("got %x, want the close frame", b)
				}
				if err := <-closed; err != nil {
					t.Error(err)
				}
			}
			if err := <-written; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestControlFramesBetweenRecords pings both ends of a busy connection and closes it: every frame
// arrives whole, and the last ping is answered.
func TestControlFramesBetweenRecords(t *testing.T) {
	const records, size = 300, 20_000
	for _, fromServer := range []bool{false, true} {
		from, to := connectTCP(t, newParties(t, Version1, false))
		if fromServer {
			from, to = to, from
		}
		written := make(chan error, 1)
		go func() {
			defer close(written)
			for range records {
				if err := from.WriteRecords(pattern(size)); err != nil {
					written <- err
					return
				}
			}
		}()
		answered := make(chan error, 1)
		go func() { _, err := from.ReadRecord(nil); answered <- err }()
		var pinging sync.WaitGroup
		pinging.Go(func() {
			for i := range records {
				err := to.wire.writeMessage(websocket.PingMessage, fmt.Append(nil, i))
				if err != nil {
					t.Error(err)
				}
			}
		})
		last := fmt.Sprint(records - 1)
		for got, lastPong := 0, false; got < records || !lastPong; {
			opcode, payload, err := to.wire.frames.next()
			if err != nil {
				t.Fatal(err)
			}
			switch opcode {
			case websocket.PongMessage:
				lastPong = string(payload) == last
			case websocket.BinaryMessage:
				if b, err := to.opener.open(nil, payload); err != nil ||
					!bytes.Equal(b, pattern(size)) {
					t.Fatalf("record %d: %d bytes, %v", got, len(b), err)
				}
				got++
			}
		}
		pinging.Wait()
		if err := <-written; err != nil {
			t.Error(err)
		}
		if err := to.CloseWith(CloseNotAdmitted, ""); err != nil {
			t.Error(err)
		}
		wantRefused(t, <-answered, CloseNotAdmitted)
	}
}
