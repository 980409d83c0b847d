package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"culvert/tunnel/mux"
)

func TestForwardToNowhereIsReset(t *testing.T) {
	local, _ := startTunnel(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := ln.Addr().String()
	ln.Close()
	conn, err := net.Dial("tcp", startForward(t, local, nowhere))
	if err == nil { // otherwise the reset has come even before the dial was over
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("dial and read: %v", err)
	}
}

// nopCloser makes a buffer an io.WriteCloser and remembers that it was closed.
type closableBuffer struct {
	bytes.Buffer
	closed bool
}

func (b *closableBuffer) Close() error {
	b.closed = true
	return nil
}

func TestStdio(t *testing.T) {
	local, _ := startTunnel(t)
	content := randomBytes(t, 1<<20)
	out := &closableBuffer{}
	err := local.Stdio(within(t, patience), serveTCP(t, echo), bytes.NewReader(content), out)
	if err != nil || !bytes.Equal(out.Bytes(), content) || !out.closed {
		t.Fatalf("%d bytes, closed %v, %v", out.Len(), out.closed, err)
	}
	cut := serveTCP(t, func(conn *net.TCPConn) {
		io.ReadFull(conn, make([]byte, 1))
		conn.SetLinger(0)
	})
	in, stop := io.Pipe()
	defer stop.Close()
	go stop.Write([]byte("x"))
	if err := local.Stdio(
		within(t, patience), cut, in, &closableBuffer{},
	); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a target that resets: %v", err)
	}
}

func TestStreamTarget(t *testing.T) {
	for text, want := range map[string]mux.Target{
		"localhost:22":   {Kind: mux.StreamTCP, Address: "localhost:22"},
		"unix:22":        {Kind: mux.StreamTCP, Address: "unix:22"},
		"unix:/run/sock": {Kind: mux.StreamUnix, Address: "/run/sock"},
	} {
		if got := streamTarget(text); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
