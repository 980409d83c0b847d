package protocol

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestViolationIsAnswered sends each end what RFC 6455 forbids. It must answer with the violation
// and end the connection.
func TestViolationIsAnswered(t *testing.T) {
	for _, fromServer := range []bool{false, true} {
		from, to := connectTCP(t, newParties(t, Version1, false))
		if fromServer {
			from, to = to, from
		}
		if _, err := from.wire.conn.Write([]byte{0x83, 0x00}); err != nil {
			t.Fatal(err)
		}
		_, err := to.ReadRecord(nil)
		var malformed frameError
		if !errors.As(err, &malformed) {
			t.Fatalf("got %v, want a frameError", err)
		}
		if _, again := to.ReadRecord(nil); again != err {
			t.Errorf("the second read returns %v, want the first error", again)
		}
		if again := to.WriteRecords(nil); again != err {
			t.Errorf("a write returns %v, want the first error", again)
		}
		var closed *PeerClosedError
		if err := readUntilError(t, from); !errors.As(err, &closed) ||
			closed.Code != websocket.CloseProtocolError || closed.Reason != "bad opcode 3" {
			t.Errorf("the other end got %v", err)
		}
	}
}

// TestViolationIsNamed: a peer that violates RFC 6455, and sends more than is read, learns why: a
// reset doesn't overtake that.
func TestViolationIsNamed(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	go func() {
		client.wire.conn.Write(append([]byte{0xc2, 0x80, 0, 0, 0, 0}, make([]byte, 256<<10)...))
	}()
	read := make(chan error, 1)
	go func() { _, err := server.ReadRecord(nil); read <- err }()
	_, _, err := client.wire.frames.next()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.CloseProtocolError {
		t.Errorf("the client got %v", err)
	}
	client.wire.conn.Close()
	var malformed frameError
	if err := <-read; !errors.As(err, &malformed) {
		t.Errorf("the server got %v", err)
	}
}

// TestCloseIsAnswered closes with a private code, as planned, and without a code: the same code
// comes back.
func TestCloseIsAnswered(t *testing.T) {
	for _, code := range []int{
		int(CloseNotAdmitted), websocket.CloseNormalClosure, websocket.CloseNoStatusReceived,
	} {
		client, server := connectTCP(t, newParties(t, Version1, false))
		message := websocket.FormatCloseMessage(code, "")
		if err := client.wire.out.writeClose(message, testTimeout); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ReadRecord(nil); !peerSaidWhy(err) ||
			errors.Is(err, io.EOF) != (code < 4000) {
			t.Errorf("code %d: got %v", code, err)
		}
		_, _, err := client.wire.frames.next()
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code || closed.Text != "" {
			t.Errorf("code %d: the answer is %v", code, err)
		}
	}
}

// TestMessageIsHeld fails a write while a message is in use. The writer then looks for a close
// frame, and must not overwrite the buffer that holds the message.
func TestMessageIsHeld(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	for range 2 {
		if err := client.WriteRecords(pattern(1000)); err != nil {
			t.Fatal(err)
		}
	}
	failed := make(chan error, 1)
	errBroken := errors.New("broken")
	err := server.wire.readMessage(websocket.BinaryMessage, func(record []byte) error {
		go func() { failed <- server.wire.writeFailed(errBroken) }()
		if server.wire.readMu.TryLock() {
			t.Error("the message is not protected while it is in use")
			server.wire.readMu.Unlock()
		}
		_, err := server.opener.open(nil, record)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := client.CloseWith(CloseNotAdmitted, ""); err != nil {
		t.Error(err)
	}
	// The second record is skipped while looking for the reason.
	wantRefused(t, <-failed, CloseNotAdmitted)
}

// TestLastRead receives part of a record, which counts, and then a ping, which does not: its pong
// shows that it was read.
func TestLastRead(t *testing.T) {
	for name, connect := range map[string]func(testing.TB, parties) (client, server *Conn){
		"TCP": connectTCP, "TLS": connectTLS,
	} {
		t.Run(name, func(t *testing.T) {
			client, server := connect(t, newParties(t, Version1, false))
			checkLastRead(t, client, server)
		})
	}
}

func checkLastRead(t *testing.T, client, server *Conn) {
	t.Helper()
	read := make(chan error, 1)
	go func() { _, err := server.ReadRecord(nil); read <- err }()
	send := func(part []byte) {
		t.Helper()
		if _, err := client.wire.conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	record := frame{opcode: websocket.BinaryMessage, mask: &testMask,
		payload: pattern(100)}.append(nil)
	before := time.Now()
	send(record)
	for deadline := before.Add(testTimeout); server.LastRead().Before(before); {
		if time.Now().After(deadline) {
			t.Fatal("received bytes do not count")
		}
	}
	before = server.LastRead()
	if !strings.Contains(before.String(), " m=") {
		t.Errorf("%v is only of the machine's clock, which may be set", before)
	}
	const apart = 5 * arrivalResolution // what the system tells is not more precise than that
	later := time.NewTimer(apart)
	<-later.C // measures whether what follows counts
	send(frame{final: true, opcode: websocket.PingMessage, mask: &testMask}.append(nil))
	client.wire.conn.SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := io.ReadFull(client.wire.conn, make([]byte, 2)); err != nil { // the pong
		t.Fatal(err)
	}
	if got := server.LastRead(); got.Sub(before).Abs() > apart/2 {
		t.Errorf("a ping counts: %v, before it %v", got, before)
	}
	client.wire.conn.Close()
	if err := <-read; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
	}
}
