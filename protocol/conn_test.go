package protocol

import (
	"bytes"
	"context"
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

func TestConnCarriesRecords(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newParties(t, v.version, v.requireCert)
			client, server := connectTCP(t, p)
			for _, n := range []int{0, 1, 109, 110, 1000, 4096, MaxSingleFrame, MaxSingleFrame + 1, 1<<16 - 16, 1 << 16, DefaultMaxMessage} {
				for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
					written := make(chan error, 1)
					go func() { written <- way.from.WriteRecord(pattern(n)) }()
					got, err := way.to.ReadRecord()
					if err != nil || !bytes.Equal(got, pattern(n)) {
						t.Fatalf("record of %d: got %d bytes, %v", n, len(got), err)
					}
					if got == nil {
						t.Errorf("record of %d: the payload is nil", n)
					}
					if err := <-written; err != nil {
						t.Fatal(err)
					}
				}
			}
			want := State{Version: v.version, Suite: "xsalsa20-poly1305", Peer: Peer{
				Version: v.version, Key: p.server.Key.Public(), Cert: client.State().Peer.Cert, Addr: p.client.ServerAddr,
			}}
			if client.State() != want {
				t.Errorf("the client's state is %+v", client.State())
			}
		})
	}
}

// TestRecordIsOneFrame looks at the frames of the largest record that is promised to be one.
func TestRecordIsOneFrame(t *testing.T) {
	p := newParties(t, Version1, false)
	cws, sws := pipeWS(t)
	client, server := connectOver(t, p, cws, sws)
	header := func(conn net.Conn, write func() error) []byte {
		t.Helper()
		written := make(chan error, 1)
		go func() { written <- write() }()
		b := make([]byte, 2+2+maskKeySize+MaxSingleFrame+boxOverhead)
		n, err := conn.Read(b) // a pipe gives what one write wrote
		if err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		return b[:n]
	}
	fromClient := header(sws.NetConn(), func() error { return client.WriteRecord(make([]byte, MaxSingleFrame)) })
	server.mayWrite.Store(true)
	fromServer := header(cws.NetConn(), func() error { return server.WriteRecord(make([]byte, MaxSingleFrame)) })
	for name, tt := range map[string]struct {
		frame []byte
		mask  byte
		size  int
	}{
		"client": {fromClient, frameMaskBit, 4 + maskKeySize}, "server": {fromServer, 0, 4},
	} {
		want := []byte{0x82, tt.mask | frameLength16, (MaxSingleFrame + boxOverhead) >> 8, (MaxSingleFrame + boxOverhead) & 0xff}
		if !bytes.HasPrefix(tt.frame, want) || len(tt.frame) != tt.size+MaxSingleFrame+boxOverhead {
			t.Errorf("%s: a frame of %d bytes begins with %x, want %x", name, len(tt.frame), tt.frame[:4], want)
		}
	}
	cws.Close()
	sws.Close()
}

func TestServerSpeaksSecond(t *testing.T) {
	c, s := shakeTCP(t, newParties(t, Version1, false))
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	for range 2 {
		if err := s.conn.WriteRecord([]byte("first")); err != ErrServerSpeaksSecond {
			t.Fatalf("got %v, want ErrServerSpeaksSecond", err)
		}
	}
	greet(t, c.conn, s.conn) // which the refused writes have not harmed
}

// TestBadMessagesEndConnection sends each kind of message that must not be. The sender is told why, and both directions
// are over for the receiver.
func TestBadMessagesEndConnection(t *testing.T) {
	tests := []struct {
		name string
		send func(t *testing.T, from *Conn) error
		code CloseCode
		want error
	}{
		{"text", func(_ *testing.T, from *Conn) error {
			return from.wire.ws.WriteMessage(websocket.TextMessage, []byte("text"))
		}, CloseBadMessage, ErrBadMessage},
		{"altered record", func(_ *testing.T, from *Conn) error {
			record, err := from.sealer.seal(nil, []byte("payload"))
			if err != nil {
				return err
			}
			record[20] ^= 1
			return from.wire.ws.WriteMessage(websocket.BinaryMessage, record)
		}, CloseNotOpened, ErrNotOpened},
		{"record left out", func(_ *testing.T, from *Conn) error {
			if _, err := from.sealer.seal(nil, nil); err != nil {
				return err
			}
			return from.WriteRecord([]byte("the next one"))
		}, CloseNotOpened, ErrNotOpened},
		{"record repeated", func(t *testing.T, from *Conn) error {
			from.sealer.(*secretboxDirection).counter.current--
			return from.WriteRecord([]byte("again"))
		}, CloseNotOpened, ErrNotOpened},
		{"empty message", func(_ *testing.T, from *Conn) error {
			return from.wire.ws.WriteMessage(websocket.BinaryMessage, nil)
		}, CloseNotOpened, ErrNotOpened},
		{"too large", func(_ *testing.T, from *Conn) error {
			return from.wire.ws.WriteMessage(websocket.BinaryMessage, make([]byte, DefaultMaxMessage+boxOverhead+1))
		}, CloseTooLarge, ErrTooLarge},
		{"too large in parts", func(_ *testing.T, from *Conn) error {
			w, err := from.wire.ws.NextWriter(websocket.BinaryMessage)
			if err != nil {
				return err
			}
			for range DefaultMaxMessage/1000 + 2 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return err
				}
			}
			return w.Close()
		}, CloseTooLarge, ErrTooLarge},
	}
	for _, tt := range tests {
		for _, fromServer := range []bool{false, true} {
			name := tt.name + " from client"
			if fromServer {
				name = tt.name + " from server"
			}
			t.Run(name, func(t *testing.T) {
				from, to := connectTCP(t, newParties(t, Version1, false))
				if fromServer {
					from, to = to, from
				}
				told := make(chan error, 1)
				go func() { told <- readUntilError(t, from) }()
				if err := tt.send(t, from); err != nil {
					t.Fatal(err)
				}
				_, err := to.ReadRecord()
				if !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if _, again := to.ReadRecord(); again != err {
					t.Errorf("the second read returns %v, want the first error", again)
				}
				if again := to.WriteRecord(nil); again != err {
					t.Errorf("a write returns %v, want the first error", again)
				}
				toldErr := <-told
				wantRefused(t, toldErr, tt.code)
				if again := from.WriteRecord(nil); again != toldErr {
					t.Errorf("the other end's write returns %v, want %v", again, toldErr)
				}
			})
		}
	}
}

func TestWriteRecordTooLarge(t *testing.T) {
	p := newParties(t, Version1, false)
	p.client.MaxMessage = 100
	client, server := connectTCP(t, p)
	if err := client.WriteRecord(make([]byte, 101)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	greet(t, client, server)
	if err := client.WriteRecord(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}

// TestReject5bReachesClient has the server refuse after the client's handshake is done. The client learns why whether
// it reads, or writes without reading.
func TestReject5bReachesClient(t *testing.T) {
	for _, write := range []bool{false, true} {
		p := newParties(t, Version1, false)
		p.server.Admit = nil
		address := listen(t, func(ws *websocket.Conn) {
			_, err := Server(context.Background(), ws, p.server)
			wantHandshakeError(t, err, "5b", CloseNotAdmitted)
		})
		c, err := Client(t.Context(), dialWS(t, address), p.client)
		if err != nil {
			t.Fatal(err)
		}
		if !write {
			wantRefused(t, readUntilError(t, c), CloseNotAdmitted)
			continue
		}
		if err := c.SetWriteDeadline(time.Now().Add(testTimeout)); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = c.WriteRecord(make([]byte, 1000))
		}
		wantRefused(t, err, CloseNotAdmitted)
		_, err = c.ReadRecord()
		wantRefused(t, err, CloseNotAdmitted)
	}
}

// TestRefusalsReachPeer has each end refuse the other during the handshake.
func TestRefusalsReachPeer(t *testing.T) {
	t.Run("4b", func(t *testing.T) {
		p := newParties(t, Version1, false)
		p.client.VerifyServer = func(Peer) error { return errWrongPin }
		c, s := shakeTCP(t, p)
		wantHandshakeError(t, c.err, "4b", CloseIdentity)
		wantHandshakeError(t, s.err, "5", 0)
		wantRefused(t, s.err, CloseIdentity)
	})
	t.Run("3", func(t *testing.T) {
		p := newParties(t, Version2, false)
		p.server.Cert = nil
		c, s := shakeTCP(t, p)
		wantHandshakeError(t, s.err, "3", CloseVersion)
		wantHandshakeError(t, c.err, "4", 0)
		wantRefused(t, c.err, CloseVersion)
	})
	for _, tt := range []struct {
		name    string
		kind    int
		message []byte
		code    CloseCode
	}{
		{"binary", websocket.BinaryMessage, []byte("{}"), CloseBadMessage},
		{"no JSON", websocket.TextMessage, []byte("hello"), CloseBadMessage},
		{"empty", websocket.TextMessage, nil, CloseBadMessage},
		{"too large", websocket.TextMessage, make([]byte, maxClientHello+1), CloseTooLarge},
	} {
		t.Run("3 "+tt.name, func(t *testing.T) {
			p := newParties(t, Version1, false)
			address := listen(t, func(ws *websocket.Conn) {
				_, err := Server(context.Background(), ws, p.server)
				wantHandshakeError(t, err, "3", tt.code)
			})
			ws := dialWS(t, address)
			if err := ws.WriteMessage(tt.kind, tt.message); err != nil {
				t.Fatal(err)
			}
			_, _, err := ws.ReadMessage()
			if !websocket.IsCloseError(err, int(tt.code)) {
				t.Fatalf("got %v, want close code %d", err, tt.code)
			}
		})
	}
}

// TestConfigurationErrorClosesWebSocket makes sure that no socket is left to the caller.
func TestConfigurationErrorClosesWebSocket(t *testing.T) {
	cws, sws := pipeWS(t)
	if _, err := Client(t.Context(), cws, ClientConfig{}); err == nil {
		t.Error("the client has no error")
	}
	if _, err := Server(t.Context(), sws, ServerConfig{}); err == nil {
		t.Error("the server has no error")
	}
	for _, ws := range []*websocket.Conn{cws, sws} {
		if _, err := ws.NetConn().Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want a closed pipe", err)
		}
	}
}

// TestHandshakeTimesOut has a peer that says nothing, and one that sends a byte now and then: the time is for the whole
// handshake.
func TestHandshakeTimesOut(t *testing.T) {
	for _, trickle := range []bool{false, true} {
		for _, timeout := range []time.Duration{0, 3 * time.Second} {
			for _, isServer := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) { testHandshakeTimeout(t, timeout, isServer, trickle) })
			}
		}
	}
}

func testHandshakeTimeout(t *testing.T, timeout time.Duration, isServer, trickle bool) {
	p := newParties(t, Version1, false)
	p.client.Timeout, p.server.Timeout = timeout, timeout
	ws, silent := pipeWS(t)
	shake, step := func() (*Conn, error) { return Client(t.Context(), ws, p.client) }, "4"
	first := frame{final: true, opcode: websocket.TextMessage, payload: pattern(120)}.append(nil)
	if isServer {
		ws, silent = silent, ws
		shake, step = func() (*Conn, error) { return Server(t.Context(), ws, p.server) }, "3"
		first[1] |= frameMaskBit
	}
	defer silent.Close()
	closeCode := make(chan error, 1)
	go func() {
		// The silent end still reads, so that it learns why it is left.
		for {
			if _, _, err := silent.ReadMessage(); err != nil {
				closeCode <- err
				return
			}
		}
	}()
	var trickling sync.WaitGroup
	if trickle {
		trickling.Go(func() {
			for _, b := range first {
				if _, err := silent.NetConn().Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
	}
	begin := time.Now()
	_, err := shake()
	want := timeout
	if want == 0 {
		want = DefaultHandshakeTimeout
	}
	// The time may be exceeded by what it takes to tell the peer.
	if took := time.Since(begin); took < want || took > want+2*closeTimeout {
		t.Errorf("it took %v, want %v", took, want)
	}
	wantHandshakeError(t, err, step, CloseTimeout)
	if !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if err := <-closeCode; !websocket.IsCloseError(err, int(CloseTimeout)) {
		t.Errorf("the silent end got %v", err)
	}
	trickling.Wait()
}

// TestHandshakeCancelled cancels the context while each end waits.
func TestHandshakeCancelled(t *testing.T) {
	for _, isServer := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newParties(t, Version1, false)
			cws, sws := pipeWS(t)
			defer cws.Close()
			defer sws.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				var err error
				if isServer {
					_, err = Server(ctx, sws, p.server)
				} else {
					_, err = Client(ctx, cws, p.client)
				}
				done <- err
			}()
			if !isServer {
				if _, _, err := sws.ReadMessage(); err != nil { // the hello
					t.Fatal(err)
				}
			}
			synctest.Wait()
			begin := time.Now()
			cancel(errWrongPin)
			err := <-done
			var he *HandshakeError
			if !errors.As(err, &he) || !errors.Is(err, errWrongPin) {
				t.Errorf("got %v, want the context's cause in a HandshakeError", err)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestHandshakeDeadlineIsLifted waits longer than the handshake's time in the secure context.
func TestHandshakeDeadlineIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		got := make(chan error, 1)
		go func() {
			_, err := server.ReadRecord()
			got <- err
		}()
		time.Sleep(2 * DefaultHandshakeTimeout)
		if err := client.WriteRecord(nil); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		closeBoth(client, server)
	})
}

// closeBoth ends both ends at once, without waiting for either.
func closeBoth(a, b *Conn) {
	a.wire.end(ErrClosed)
	b.wire.end(ErrClosed)
}

// TestCloseUnblocksRead closes while a read waits, on either end.
func TestCloseUnblocksRead(t *testing.T) {
	for _, fromServer := range []bool{false, true} {
		from, to := connectTCP(t, newParties(t, Version1, false))
		if fromServer {
			from, to = to, from
		}
		blocked, told := make(chan error, 1), make(chan error, 1)
		go func() { _, err := from.ReadRecord(); blocked <- err }()
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
		if err := from.WriteRecord(nil); err != ErrClosed {
			t.Errorf("a write returns %v, want ErrClosed", err)
		}
		if err := from.SetReadDeadline(time.Time{}); err != ErrClosed {
			t.Errorf("a deadline returns %v, want ErrClosed", err)
		}
	}
}

// TestCloseUnblocksWrite closes while a write waits for a peer that does not read.
func TestCloseUnblocksWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		blocked := make(chan error, 1)
		go func() { blocked <- client.WriteRecord(make([]byte, 1000)) }()
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

// TestCloseIsBounded closes towards a peer that never reads.
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

// TestCloseWithArrives has unread data on the way to the closing end, which would reset the connection if it just
// closed its socket.
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
			if err := client.WriteRecord(make([]byte, 1000)); err != nil {
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

// TestAbruptEnd has the peer's TCP connection end without a close frame, between records and within one.
func TestAbruptEnd(t *testing.T) {
	for _, half := range []bool{false, true} {
		client, server := connectTCP(t, newParties(t, Version1, false))
		if half {
			b := frame{final: true, opcode: websocket.BinaryMessage, mask: &testMask, payload: pattern(100)}.append(nil)
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
		_, err := server.ReadRecord()
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: got %v, want ErrTimeout", time.Since(begin), err)
		}
		if _, again := server.ReadRecord(); again != err {
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
		err := client.WriteRecord(make([]byte, 10))
		if !errors.Is(err, ErrTimeout) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: got %v, want ErrTimeout", time.Since(begin), err)
		}
		if _, again := client.ReadRecord(); again != err {
			t.Errorf("a read returns %v, want the first error", again)
		}
		closeBoth(client, server)
	})
}

// TestPingIsAnswered pings an end that reads, and one whose writer is stuck: its reader goes on, and the pong follows
// when the writer is free.
func TestPingIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		if err := pingFrom(server, client, "idle"); err != nil {
			t.Fatal(err)
		}

		// Nobody reads at the server, so that the client's write waits.
		written := make(chan error, 1)
		go func() { written <- client.WriteRecord([]byte("stuck")) }()
		synctest.Wait()
		read := make(chan string, 1)
		go func() {
			b, err := client.ReadRecord()
			if err != nil {
				t.Error(err)
			}
			read <- string(b)
		}()
		for _, payload := range []string{"one", "two"} {
			if err := server.wire.ws.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		server.mayWrite.Store(true)
		if err := server.WriteRecord([]byte("behind the pings")); err != nil {
			t.Fatal(err)
		}
		if got := <-read; got != "behind the pings" {
			t.Errorf("got %q", got)
		}

		pongs := make(chan string, 2)
		server.wire.ws.SetPongHandler(func(s string) error { pongs <- s; return nil })
		if b, err := server.ReadRecord(); err != nil || string(b) != "stuck" {
			t.Fatalf("got %q, %v", b, err)
		}
		go func() { _, _ = server.ReadRecord() }()
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if got := <-pongs; got != "two" {
			t.Errorf("got the pong %q, want the answer to the latest ping", got)
		}
		closeBoth(client, server)
		synctest.Wait()
		if len(pongs) != 0 {
			t.Error("a second pong has come")
		}
	})
}

// pingFrom pings an end that is reading, and waits for the pong.
func pingFrom(from, to *Conn, payload string) error {
	read := make(chan error, 2)
	pong := make(chan string, 1)
	from.wire.ws.SetPongHandler(func(s string) error { pong <- s; return nil })
	go func() { _, err := to.ReadRecord(); read <- err }()
	if err := from.wire.ws.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(time.Minute)); err != nil {
		return err
	}
	go func() { _, err := from.ReadRecord(); read <- err }()
	if got := <-pong; got != payload {
		return errors.New("another pong: " + got)
	}
	// Both reads end with a record each.
	from.mayWrite.Store(true)
	if err := to.WriteRecord(nil); err != nil {
		return err
	}
	if err := from.WriteRecord(nil); err != nil {
		return err
	}
	return errors.Join(<-read, <-read)
}

// TestSteadyStateAllocations counts what a record allocates once the buffers have grown: one small object of gorilla's
// for each message that is read, another for each that a client writes.
func TestSteadyStateAllocations(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	payload := pattern(32 << 10)
	for _, tt := range []struct {
		name     string
		from, to *Conn
		most     float64
	}{{"client to server", client, server, 2}, {"server to client", server, client, 1}} {
		allocations := testing.AllocsPerRun(200, func() {
			if err := tt.from.WriteRecord(payload); err != nil {
				t.Fatal(err)
			}
			if _, err := tt.to.ReadRecord(); err != nil {
				t.Fatal(err)
			}
		})
		if allocations > tt.most {
			t.Errorf("%s: %v allocations a record, want at most %v", tt.name, allocations, tt.most)
		}
	}
}
