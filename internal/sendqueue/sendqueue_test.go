package sendqueue

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// timeout bounds every wait.
const timeout = 20 * time.Second

// pair is a connected pair, of which the reader has a small receive buffer.
func pair(t *testing.T) (writer, reader *net.TCPConn) {
	t.Helper()
	writer, reader = testnet.TCPPair(t, timeout)
	reader.SetReadBuffer(32 << 10)
	return writer, reader
}

// TestAwait: a reset after Await overtakes nothing.
func TestAwait(t *testing.T) {
	writer, reader := pair(t)
	const size = 1 << 20
	go func() {
		writer.Write(make([]byte, size))
		Await(context.Background(), writer)
		writer.SetLinger(0)
		writer.Close()
	}()
	if n, err := io.Copy(io.Discard, reader); n != size || err == nil {
		t.Errorf("got %d bytes of %d, %v", n, size, err)
	}
}

// TestAwaitEnds: nothing is waited for once the connection is over or ctx is done, or where there
// is no queue.
func TestAwaitEnds(t *testing.T) {
	for name, end := range map[string]func(cancel func(), writer, reader *net.TCPConn){
		"cancelled":   func(cancel func(), _, _ *net.TCPConn) { cancel() },
		"closed here": func(_ func(), writer, _ *net.TCPConn) { writer.Close() },
		"reset by the peer": func(_ func(), _, reader *net.TCPConn) {
			reader.SetLinger(0)
			reader.Close()
		},
	} {
		writer, reader := pair(t)
		writer.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		writer.Write(make([]byte, 64<<20)) // fills the buffers of both sides
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			Await(ctx, writer)
			close(ended)
		}()
		end(cancel, writer, reader)
		select {
		case <-ended:
		case <-time.After(timeout):
			t.Errorf("%s: still waits", name)
		}
		cancel()
		writer.Close() // ends what still waits
		<-ended
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	Await(t.Context(), near)
}
