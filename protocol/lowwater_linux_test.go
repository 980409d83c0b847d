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
	bytes, err := socketOption(conn, unix.SOL_SOCKET, unix.SO_RCVLOWAT)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// socketOption returns an option of a connection's socket.
func socketOption(conn *net.TCPConn, level, option int) (value int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		value, err = unix.GetsockoptInt(int(fd), level, option)
	})
	if err == nil {
		err = controlErr
	}
	return value, err
}

// TestLowWater: a frame that arrives in pieces wakes its reader when it is whole, while LastRead
// tells of the pieces; the next frame arrives in any case, however small.
func TestLowWater(t *testing.T) {
	const timeout = time.Minute
	writer, reader := testnet.TCPPair(t, timeout)
	if err := reader.SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	marks := newLowWater(reader)
	w := &wire{conn: reader, source: reader, began: time.Now(), marks: marks}
	w.frames = newFrameReader(wireSource{w}, false, nil)
	w.frames.marker, w.frames.limit = marks, 1<<20
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

// TestLowWaterOfBuffer: a mark is a small part of the socket's buffer, so that what waits takes
// little of the window that the peer has; where the buffer is small, there is none.
func TestLowWaterOfBuffer(t *testing.T) {
	for _, size := range []int{32 << 10, 1 << 20} {
		_, reader := testnet.TCPPair(t, time.Minute)
		if err := reader.SetReadBuffer(size); err != nil {
			t.Fatal(err)
		}
		marks := newLowWater(reader)
		marks.mark(usualRecord)
		most := marks.most
		if most >= minReadBuffer && (markOf(t, reader) != min(most, usualRecord) || !marks.marked()) {
			t.Errorf("a buffer of %d: a mark of %d, want %d", size, markOf(t, reader), most)
		}
		if most < minReadBuffer && (markOf(t, reader) > 1 || marks.marked()) {
			t.Errorf("a buffer of %d: a mark of %d, want none", size, markOf(t, reader))
		}
		// The kernel doubles what was asked for, and bounds that.
		if most < size/lowWaterShare && size == 32<<10 || most > 2*size/lowWaterShare ||
			most < minReadBuffer && size > 32<<10 {
			t.Errorf("a buffer of %d: marks of at most %d", size, most)
		}
		marks.mark(0)
		if markOf(t, reader) > 1 {
			t.Errorf("a buffer of %d: a mark of %d is left", size, markOf(t, reader))
		}
	}
}
