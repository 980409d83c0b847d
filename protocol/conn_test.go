package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/gorilla/websocket"
)

func TestConnCarriesRecords(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newParties(t, v.version, v.requireCert)
			client, server := connectTCP(t, p)
			for _, n := range []int{
				0, 1, 109, 110, 1000, 4096, usualRecord, usualRecord + 1, 1<<16 - 16, 1 << 16,
				DefaultMaxMessage,
			} {
				for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
					written := make(chan error, 1)
					go func() { written <- way.from.WriteRecords(pattern(n)) }()
					got, err := way.to.ReadRecord(nil)
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
				Version: v.version, Key: p.server.Key.Public(), Cert: client.State().Peer.Cert,
				Addr: p.client.ServerAddr,
			}}
			if client.State() != want {
				t.Errorf("the client's state is %+v", client.State())
			}
		})
	}
}

// TestRecordIsOneFrame checks the frames of the largest record of the usual size.
func TestRecordIsOneFrame(t *testing.T) {
	p := newParties(t, Version1, false)
	cws, sws := pipeWS(t)
	client, server := connectOver(t, p, cws, sws)
	header := func(conn net.Conn, write func() error) []byte {
		t.Helper()
		written := make(chan error, 1)
		go func() { written <- write() }()
		b := make([]byte, 2+2+maskKeySize+usualRecord+boxOverhead)
		n, err := conn.Read(b) // a pipe's read returns one write
		if err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		return b[:n]
	}
	fromClient := header(sws.NetConn(), func() error {
		return client.WriteRecords(make([]byte, usualRecord))
	})
	server.mayWrite.Store(true)
	fromServer := header(cws.NetConn(), func() error {
		return server.WriteRecords(make([]byte, usualRecord))
	})
	for name, tt := range map[string]struct {
		frame []byte
		mask  byte
		size  int
	}{
		"client": {fromClient, frameMaskBit, 4 + maskKeySize}, "server": {fromServer, 0, 4},
	} {
		want := []byte{0x82, tt.mask | frameLength16, (usualRecord + boxOverhead) >> 8,
			(usualRecord + boxOverhead) & 0xff}
		if tt.mask != 0 {
			// a record is ciphertext, so its mask key is zero
			want = append(want, 0, 0, 0, 0)
		}
		if !bytes.HasPrefix(tt.frame, want) || len(tt.frame) != tt.size+usualRecord+boxOverhead {
			t.Errorf("%s: a frame of %d bytes begins with %x, want %x", name, len(tt.frame),
				tt.frame[:len(want)], want)
		}
	}
	cws.Close()
	sws.Close()
}

// TestRecordsLeaveTogether writes several records with one call: they arrive as with one call each,
// even if they, or one of them, exceed the buffer.
func TestRecordsLeaveTogether(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	for _, way := range []struct {
		name     string
		from, to *Conn
	}{{"up", client, server}, {"down", server, client}} {
		for _, sizes := range [][]int{
			{}, {0}, {5}, {1, 0, 125, 126, 65535, 65536}, slices.Repeat([]int{usualRecord}, 9),
			{10, batchSize, 10, 2 * batchSize, 20},
		} {
			var payloads [][]byte
			for _, n := range sizes {
				payloads = append(payloads, pattern(n))
			}
			written := make(chan error, 1)
			go func() { written <- way.from.WriteRecords(payloads...) }()
			for i, want := range payloads {
				got, err := way.to.ReadRecord(make([]byte, 0, 100))
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s, %v: record %d: %d bytes, %v", way.name, sizes, i, len(got), err)
				}
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestServerSpeaksSecond(t *testing.T) {
	c, s := shakeTCP(t, newParties(t, Version1, false))
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	for range 2 {
		if err := s.conn.WriteRecords([]byte("first")); err != ErrServerSpeaksSecond {
			t.Fatalf("got %v, want ErrServerSpeaksSecond", err)
		}
	}
	greet(t, c.conn, s.conn) // the connection is still usable
}

// badMessages are sent by one end, and must be refused by the other.
var badMessages = []struct {
	name string
	send func(t *testing.T, from *Conn) error
	code CloseCode
	want error
}{
	{"text", func(_ *testing.T, from *Conn) error {
		return from.wire.writeMessage(websocket.TextMessage, []byte("text"))
	}, CloseBadMessage, ErrBadMessage},
	{"altered record", func(_ *testing.T, from *Conn) error {
		record, err := from.sealer.seal(nil, []byte("payload"))
		if err != nil {
			return err
		}
		record[20] ^= 1
		return from.wire.writeMessage(websocket.BinaryMessage, record)
	}, CloseNotOpened, ErrNotOpened},
	{"record left out", func(_ *testing.T, from *Conn) error {
		if _, err := from.sealer.seal(nil, nil); err != nil {
			return err
		}
		return from.WriteRecords([]byte("the next one"))
	}, CloseNotOpened, ErrNotOpened},
	{"record repeated", func(t *testing.T, from *Conn) error {
		from.sealer.(*secretboxDirection).counter.current--
		return from.WriteRecords([]byte("again"))
	}, CloseNotOpened, ErrNotOpened},
	{"empty message", func(_ *testing.T, from *Conn) error {
		return from.wire.writeMessage(websocket.BinaryMessage, nil)
	}, CloseNotOpened, ErrNotOpened},
	{"too large", func(_ *testing.T, from *Conn) error {
		return from.wire.writeMessage(websocket.BinaryMessage,
			make([]byte, DefaultMaxMessage+boxOverhead+1))
	}, CloseTooLarge, ErrTooLarge},
	{"too large in parts", func(_ *testing.T, from *Conn) error {
		part := frame{opcode: websocket.BinaryMessage, payload: make([]byte, 1000)}
		if from.wire.out.masked {
			part.mask = &testMask
		}
		var message []byte
		for range DefaultMaxMessage/1000 + 2 {
			message = part.append(message)
			part.opcode = opcodeContinuation
		}
		part.final, part.payload = true, nil
		return from.wire.writeFrames(part.append(message))
	}, CloseTooLarge, ErrTooLarge},
}

// TestBadMessagesEndConnection sends each kind of bad message. The sender gets the reason, and both
// directions end for the receiver.
func TestBadMessagesEndConnection(t *testing.T) {
	for _, tt := range badMessages {
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
				_, err := to.ReadRecord(nil)
				if !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if _, again := to.ReadRecord(nil); again != err {
					t.Errorf("the second read returns %v, want the first error", again)
				}
				if again := to.WriteRecords(nil); again != err {
					t.Errorf("a write returns %v, want the first error", again)
				}
				toldErr := <-told
				wantRefused(t, toldErr, tt.code)
				if again := from.WriteRecords(nil); again != toldErr {
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
	if err := client.WriteRecords(make([]byte, 101)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	greet(t, client, server)
	if err := client.WriteRecords(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}

// TestPingIsAnswered pings an end that reads, and one whose writer is stuck: its reader goes on,
// and the pong follows when the writer is free.
func TestPingIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connectPipe(t, newParties(t, Version1, false))
		if err := pingFrom(server, client, "idle"); err != nil {
			t.Fatal(err)
		}

		// The server doesn't read, so the client's write blocks.
		written := make(chan error, 1)
		go func() { written <- client.WriteRecords([]byte("stuck")) }()
		synctest.Wait()
		read := make(chan string, 1)
		go func() {
			b, err := client.ReadRecord(nil)
			if err != nil {
				t.Error(err)
			}
			read <- string(b)
		}()
		for _, payload := range []string{"one", "two"} {
			if err := server.wire.writeMessage(websocket.PingMessage, []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		server.mayWrite.Store(true)
		if err := server.WriteRecords([]byte("behind the pings")); err != nil {
			t.Fatal(err)
		}
		if got := <-read; got != "behind the pings" {
			t.Errorf("got %q", got)
		}

		if b, err := server.ReadRecord(nil); err != nil || string(b) != "stuck" {
			t.Fatalf("got %q, %v", b, err)
		}
		if err := wantPong(server, "two"); err != nil { // the answer to the latest ping
			t.Error(err)
		}
		if err := <-written; err != nil { // a second pong would block it, as nobody reads it
			t.Fatal(err)
		}
		closeBoth(client, server)
	})
}

// TestManyPings: of the pings that come with one read, the latest is answered. Each answer takes a
// system call, and a stranger may send many.
func TestManyPings(t *testing.T) {
	const pings = 10_000
	client, server := connectTCP(t, newParties(t, Version1, false))
	var b []byte
	for i := range pings {
		b = frame{final: true, opcode: websocket.PingMessage, mask: &testMask,
			payload: fmt.Appendf(nil, "%05d", i)}.append(b)
	}
	written := make(chan error, 1)
	go func() {
		_, err := client.wire.conn.Write(b)
		if err == nil {
			err = client.WriteRecords([]byte("behind the pings"))
		}
		written <- err
	}()
	got, err := server.ReadRecord(nil)
	if err := errors.Join(err, <-written); err != nil || string(got) != "behind the pings" {
		t.Fatalf("got %q, %v", got, err)
	}
	go server.Close()
	pongs, latest := 0, ""
	for {
		opcode, payload, err := client.wire.frames.next()
		if err != nil {
			break
		}
		if opcode == websocket.PongMessage {
			pongs, latest = pongs+1, string(payload)
		}
	}
	client.wire.conn.Close()
	if pongs > pings/20 || latest != fmt.Sprintf("%05d", pings-1) {
		t.Errorf("%d pongs, the last one to %s", pongs, latest)
	}
}

// pingFrom pings an end that is reading, and waits for the pong.
func pingFrom(from, to *Conn, payload string) error {
	read := make(chan error, 2)
	go func() { _, err := to.ReadRecord(nil); read <- err }()
	if err := from.wire.writeMessage(websocket.PingMessage, []byte(payload)); err != nil {
		return err
	}
	if err := wantPong(from, payload); err != nil {
		return err
	}
	go func() { _, err := from.ReadRecord(nil); read <- err }()
	// Both reads end with a record each.
	from.mayWrite.Store(true)
	if err := to.WriteRecords(nil); err != nil {
		return err
	}
	if err := from.WriteRecords(nil); err != nil {
		return err
	}
	return errors.Join(<-read, <-read)
}

// wantPong reads a pong, which a connection's own reads skip.
func wantPong(at *Conn, payload string) error {
	opcode, got, err := at.wire.frames.next()
	if err != nil || opcode != websocket.PongMessage || string(got) != payload {
		return fmt.Errorf("got %q, opcode %d, %v, want the pong %q", got, opcode, err, payload)
	}
	return nil
}
