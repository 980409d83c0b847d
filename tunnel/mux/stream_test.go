package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseAfterCloseWrite checks that a stream whose half has already ended still tells the peer
// that it reads no more.
func TestCloseAfterCloseWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		a, b := openPair(t, client, server)
		a.CloseWrite()
		synctest.Wait() // the fin has left
		a.Close()
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		b.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := b.Write(make([]byte, 4<<20))
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write to a closed stream: %d bytes, %v", n, err)
		}
		if got, err := io.ReadAll(b); err != nil || len(got) != 0 {
			t.Errorf("the half that ended cleanly: %d bytes, %v", len(got), err)
		}
		b.Close()
		waitStreams(t, client, 0)
		waitStreams(t, server, 0)
	})
}

// TestCloseGivesCreditUntilSent writes more than a window at both ends before either reads: the
// closed end must not keep the other from ever reading.
func TestCloseGivesCreditUntilSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Window: 16 << 10}
		client, server := newPair(t, cfg, cfg)
		a, b := openPair(t, client, server)
		question := randomBytes(t, 60<<10)
		a.Write(question)
		b.Write([]byte("not read before the close"))
		synctest.Wait()
		a.Close()
		b.SetDeadline(time.Now().Add(time.Second))
		if _, err := b.Write(make([]byte, 300<<10)); err != nil {
			t.Fatalf("write: %v", err)
		}
		got, err := io.ReadAll(b)
		if err != nil || string(got) != string(question) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		b.Close()
		waitStreams(t, client, 0)
		waitStreams(t, server, 0)
	})
}

func TestRefuseAfterConfirmResets(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	b.refuse(CodeTimeout, "too late to refuse")
	a.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := a.Read(make([]byte, 1))
	var reset *ResetError
	if !errors.As(err, &reset) || !reset.Remote || reset.Code != CodeTimeout {
		t.Fatalf("read: %v", err)
	}
	a.Close()
}

// TestConfirmOfEndedStream checks that Confirm releases a stream that its opener has given up.
func TestConfirmOfEndedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, p := newRawClient(t, Config{MaxStreams: 1}, rawHello)
		p.send(wireOpen(1, 'x', 'y'))
		in, err := server.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		p.send(wire(kindReset, 1, u16(CodeCancelled)))
		synctest.Wait()
		if _, err := in.(*IncomingStream).Confirm(); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("confirm: %v", err)
		}
		if n := server.Stats().Buffered; n != 0 {
			t.Errorf("%d bytes buffered", n)
		}
		p.send(wireOpen(3))
		if refused := ofKind(p.quiet(), kindRefused); len(refused) != 0 {
			t.Errorf("refused: %v", refused)
		}
	})
}

// lastPiece returns its bytes and the end in one call, after it has done something to the stream
// that they are for.
type lastPiece struct{ do func() }

func (r lastPiece) Read(p []byte) (int, error) {
	r.do()
	return copy(p, "the last bytes"), io.EOF
}

// TestReadFromReportsLostEnd checks that ReadFrom does not report bytes as sent that it has
// dropped.
func TestReadFromReportsLostEnd(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	for name, c := range map[string]struct {
		do   func(*Stream)
		want error
	}{
		"reset":  {func(st *Stream) { st.Reset(CodeAborted) }, syscall.ECONNRESET},
		"closed": {func(st *Stream) { st.Close() }, net.ErrClosed},
	} {
		a, b := openPair(t, client, server)
		n, err := a.ReadFrom(lastPiece{func() { c.do(a) }})
		if n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		b.Close()
	}
}

// pieces returns reads of the given sizes, of a counting pattern.
type pieces struct {
	sizes []int
	next  byte
}

func (r *pieces) Read(p []byte) (int, error) {
	if len(r.sizes) == 0 {
		return 0, io.EOF
	}
	n := min(r.sizes[0], len(p))
	if r.sizes[0] -= n; r.sizes[0] == 0 {
		r.sizes = r.sizes[1:]
	}
	for i := range p[:n] {
		p[i] = r.next
		r.next++
	}
	return n, nil
}

type shortWriter struct{ left int }

func (w *shortWriter) Write(p []byte) (int, error) {
	n := min(w.left, len(p))
	w.left -= n
	return n, nil
}

func TestReadFromWriteTo(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	r := &pieces{sizes: []int{1, 2, smallBlock - 1, smallBlock, smallBlock + 1, largeBlock - 1,
		largeBlock, largeBlock + 1, 300 << 10}}
	total := int64(0)
	for _, n := range r.sizes {
		total += int64(n)
	}
	go func() {
		defer a.CloseWrite()
		if n, err := a.ReadFrom(r); n != total || err != nil {
			t.Errorf("ReadFrom: %d of %d bytes, %v", n, total, err)
		}
	}()
	var check byte
	n, err := b.WriteTo(writerFunc(func(p []byte) (int, error) {
		for _, c := range p {
			if c != check {
				t.Fatalf("byte %d is %d", check, c)
			}
			check++
		}
		return len(p), nil
	}))
	if n != total || err != nil {
		t.Fatalf("WriteTo: %d of %d bytes, %v", n, total, err)
	}
	if n, err := b.ReadFrom(&pieces{sizes: []int{100}}); n != 100 || err != nil {
		t.Fatalf("ReadFrom: %d bytes, %v", n, err)
	}
	if n, err := a.WriteTo(&shortWriter{40}); n != 40 || !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("WriteTo to a short writer: %d bytes, %v", n, err)
	}
	a.Close()
	b.Close()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Window: 4 << 10, SendBuffer: 4 << 10, Keepalive: -1}
		client, server := newPair(t, cfg, cfg)
		a, b := openPair(t, client, server)
		start := time.Now()
		expires := func(what string, after time.Duration, err error) {
			t.Helper()
			if took := time.Since(start); took != after || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s after %v, want %v: %v", what, took, after, err)
			}
			start = time.Now()
		}
		read := func() error { _, err := a.Read(make([]byte, 1)); return err }

		a.SetReadDeadline(start.Add(time.Second))
		expires("read", time.Second, read())
		expires("read again", 0, read())

		a.SetReadDeadline(start.Add(time.Second))
		time.AfterFunc(time.Second/2, func() { a.SetReadDeadline(start.Add(3 * time.Second)) })
		expires("read with a later deadline", 3*time.Second, read())

		a.SetReadDeadline(start.Add(time.Hour))
		time.AfterFunc(time.Second, func() { a.SetReadDeadline(time.Now().Add(-1)) })
		expires("read with a past deadline", time.Second, read())

		a.SetReadDeadline(start.Add(time.Second))
		a.SetReadDeadline(time.Time{})
		time.AfterFunc(2*time.Second, func() { b.Write([]byte("x")) })
		if err := read(); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("read without a deadline after %v: %v", time.Since(start), err)
		}

		start = time.Now()
		a.SetWriteDeadline(start.Add(time.Second))
		n, err := a.Write(make([]byte, 20<<10)) // a window and a send buffer of it
		expires("write", time.Second, err)
		if n != 8<<10 {
			t.Errorf("%d bytes written", n)
		}
		a.SetDeadline(start.Add(time.Second))
		a.Close()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if err := a.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("SetDeadline after Close: %v", err)
		}
		b.Reset(CodeAborted)
	})
}

// TestNoTimersLeft looks inside: a timer that was left is not visible from outside until it fires.
func TestNoTimersLeft(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	for name, end := range map[string]func(*Stream){
		"close":  func(st *Stream) { st.Close() },
		"reset":  func(st *Stream) { st.Reset(CodeAborted) },
		"refuse": func(st *Stream) { st.refuse(CodeTimeout, "") },
	} {
		a, b := openPair(t, client, server)
		b.SetDeadline(time.Now().Add(time.Hour))
		end(b)
		server.mu.Lock()
		if b.recv.deadline.timer != nil || b.send.deadline.timer != nil {
			t.Errorf("%s leaves a timer", name)
		}
		server.mu.Unlock()
		a.Close()
	}
}

func TestAddrs(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	if a.ID() != b.ID() || a.Target() != b.Target() {
		t.Errorf("ids %d and %d, targets %v and %v", a.ID(), b.ID(), a.Target(), b.Target())
	}
	if addr := b.RemoteAddr(); addr.Network() != "mux" || addr.String() != "example.test:80" {
		t.Errorf("remote address %v %v", addr.Network(), addr)
	}
	if addr := b.LocalAddr(); addr.String() != "local" {
		t.Errorf("local address %v", addr)
	}
	a.Close()
	b.Close()
}

// TestResetOfEcho: a stream that is copied to itself can be reset while it waits for credit.
func TestResetOfEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		st := p.accept(s, 1)
		copied := make(chan error, 1)
		go func() {
			_, err := io.Copy(st, st)
			copied <- err
		}()
		credit := uint64(0)
		for credit < DefaultWindow+DefaultSendBuffer { // what it gets, it sends on or queues
			p.send(wire(kindData, 1, make([]byte, 16<<10)))
			credit += 16 << 10
			for _, f := range ofKind(p.quiet(), kindCredit) {
				if f.uint64() < credit {
					t.Errorf("credit for %d bytes after %d", f.uint64(), credit)
				}
			}
		}
		p.send(wire(kindData, 1, make([]byte, 16<<10))) // which waits for room
		p.quiet()
		st.Reset(CodeAborted)
		if err := <-copied; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the copy ended with %v", err)
		}
	})
}
