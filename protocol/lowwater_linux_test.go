package protocol

import (
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"

	"github.com/gorilla/websocket"
)

// markOf returns the low-water mark that the system knows.
func markOf(t *testing.T, conn *net.TCPConn) (bytes int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		controlErr := raw.Control(func(fd uintptr) {
			bytes, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT)
		})
		if err == nil {
			err = controlErr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestLowWater: a frame that arrives in pieces wakes its reader when it is whole, while LastRead
// tells of the pieces; the next frame arrives in any case, however small.
func TestLowWater(t *testing.T) {
	const timeout = time.Minute
	writer, reader := testnet.TCPPair(t, timeout)
	marks := newLowWater(reader)
	w := &wire{conn: reader, began: time.Now(), marks: marks}
	w.frames = newFrameReader(wireSource{w}, false, nil)
	w.frames.marker, w.frames.limit, w.frames.unmarked = marks, 1<<20, 0
	got := make(chan int)
	go func() {
		defer close(got)
		for {
			_, payload, err := w.frames.next()
			if err != nil {
				return
			}
			got <- len(payload)
		}
	}()
	frame := appendFrame(nil, websocket.BinaryMessage, make([]byte, 32<<10), false)
	const piece = 1000
	sent := 0
	write := func(n int) {
		writer.Write(frame[sent : sent+n])
		sent += n
	}
	write(piece)
	testnet.Poll(t, timeout, "a mark", func() bool {
		marked := markOf(t, reader) > 1
		if !marked {
			write(1)
		}
		return marked
	})
	c := &Conn{wire: w}
	first := c.LastRead()
	testnet.Poll(t, timeout, "a sign of life", func() bool {
		alive := c.LastRead().Sub(first) > 20*time.Millisecond
		if !alive {
			write(1)
		}
		return alive
	})
	if read := w.lastRead.Load(); w.began.Add(time.Duration(read)).After(first) {
		t.Error("pieces of a frame woke the reader")
	}
	writer.Write(frame[sent:])
	wantFrame := func(want int) {
		t.Helper()
		select {
		case n, ok := <-got:
			if !ok || n != want {
				t.Fatalf("a frame of %d bytes, %v; want %d", n, ok, want)
			}
		case <-time.After(timeout):
			t.Fatalf("no frame of %d bytes", want)
		}
	}
	wantFrame(32 << 10)
	for range 3 {
		writer.Write(appendFrame(nil, websocket.BinaryMessage, make([]byte, 100), false))
		wantFrame(100)
	}
	// the end is noticed within a frame
	writer.Write(frame[:piece])
	testnet.Poll(t, timeout, "a mark", func() bool { return markOf(t, reader) > 1 })
	writer.Close()
	if n, ok := <-got; ok {
		t.Errorf("a frame of %d bytes, which was cut off", n)
	}
}
