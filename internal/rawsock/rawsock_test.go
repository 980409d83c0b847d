package rawsock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"culvert/internal/testnet"
)

const patience = time.Minute

// eachPair runs a test with connected sockets of each kind, and with what is no socket.
func eachPair(t *testing.T, test func(t *testing.T, near, far net.Conn)) {
	for _, network := range []string{"tcp", "unix", "pipe"} {
		t.Run(network, func(t *testing.T) {
			if network == "pipe" {
				near, far := net.Pipe()
				t.Cleanup(func() { near.Close(); far.Close() })
				test(t, near, far)
				return
			}
			near, far := testnet.Pair(t, network, patience)
			test(t, near, far)
		})
	}
}

// TestRead: what comes is read in order, and then the end of the stream.
func TestRead(t *testing.T) {
	eachPair(t, func(t *testing.T, near, far net.Conn) {
		want := bytes.Repeat([]byte("0123456789"), 100_000)
		failed := make(chan error, 1)
		go func() {
			_, err := far.Write(want)
			failed <- errors.Join(err, far.Close())
		}()
		got, err := io.ReadAll(NewReader(near))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if err := <-failed; err != nil {
			t.Error(err)
		}
	})
}

// TestWriteVector: a vector of any length arrives whole, however small the socket's buffer is.
func TestWriteVector(t *testing.T) {
	eachPair(t, func(t *testing.T, near, far net.Conn) {
		var vector [][]byte
		var want []byte
		for i := range 40 {
			part := bytes.Repeat([]byte{byte(i)}, i%4*100_000) // some of them are empty
			vector = append(vector, part)
			want = append(want, part...)
		}
		type result struct {
			n   int64
			err error
		}
		written := make(chan result, 1)
		go func() {
			out := NewWriter(near)
			n, err := out.WriteVector(vector)
			if n2, err2 := out.WriteVector(nil); n2 != 0 || err2 != nil {
				t.Errorf("nothing to write: %d, %v", n2, err2)
			}
			written <- result{n, errors.Join(err, near.Close())}
		}()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if r := <-written; r.n != int64(len(want)) || r.err != nil {
			t.Errorf("wrote %d bytes of %d, %v", r.n, len(want), r.err)
		}
	})
}

// TestWriteCounts: where a deadline ends a write, as many bytes count as the peer gets.
func TestWriteCounts(t *testing.T) {
	eachPair(t, func(t *testing.T, near, far net.Conn) {
		if err := near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		part := make([]byte, 4<<20)
		n, err := NewWriter(near).WriteVector([][]byte{part, part, part, part})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("error %v, want that of the deadline", err)
		}
		near.Close()
		got, err := io.Copy(io.Discard, far)
		if got != n || err != nil {
			t.Errorf("%d bytes count, and %d arrived, %v", n, got, err)
		}
	})
}

// TestErrors: errors are those of package net, to the letter.
func TestErrors(t *testing.T) {
	past := time.Unix(1, 0)
	for name, prepare := range map[string]func(near, far net.Conn) error{
		"deadline": func(near, _ net.Conn) error { return near.SetDeadline(past) },
		"closed":   func(near, _ net.Conn) error { return near.Close() },
		"reset":    func(_, far net.Conn) error { return reset(far) },
	} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, near, far net.Conn) {
				if err := prepare(near, far); err != nil {
					t.Fatal(err)
				}
				read := func(r io.Reader) error {
					_, err := r.Read(make([]byte, 1))
					return err
				}
				write := func(w io.Writer) (err error) {
					for err == nil { // the first write after a close may succeed
						_, err = w.Write(make([]byte, 1<<10))
					}
					return err
				}
				// a reset is reported once
				first, second := read(NewReader(near)), read(near)
				if name != "reset" {
					compare(t, "read", first, second)
				} else if first == nil {
					t.Error("read: no error")
				}
				compare(t, "write", write(NewWriter(near)), write(near))
			})
		})
	}
}

func compare(t *testing.T, verb string, got, want error) {
	t.Helper()
	if got == nil || want == nil || got.Error() != want.Error() {
		t.Errorf("%s: %v, want %v", verb, got, want)
	}
	var timeout, wantTimeout net.Error
	if errors.As(got, &timeout) != errors.As(want, &wantTimeout) ||
		wantTimeout != nil && timeout.Timeout() != wantTimeout.Timeout() {
		t.Errorf("%s: %#v, want %#v", verb, got, want)
	}
}

// reset makes the peer see a reset, where conn can.
func reset(conn net.Conn) error {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return conn.Close()
}

// TestAllocates: nothing, once there is a reader or a writer.
func TestAllocates(t *testing.T) {
	near, far := testnet.Pair(t, "tcp", patience)
	in, out := NewReader(far), NewWriter(near)
	p := make([]byte, 1<<10)
	vector := make([][]byte, 2)
	n := testing.AllocsPerRun(100, func() {
		vector[0], vector[1] = p[:512], p[512:]
		if _, err := out.WriteVector(vector); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(in, p); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
