//go:build unix

package stdstream

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each wait.
const patience = 10 * time.Second

// pipe returns a pipe in the blocking mode, as a shell's.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func stream(t *testing.T, f *os.File) *Stream {
	t.Helper()
	s := New(f)
	t.Cleanup(s.Release)
	return s
}

// result waits for the result of a call that is under way.
func result(t *testing.T, results <-chan error) error {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-results:
		return err
	case <-timer.C:
		t.Fatal("the call is still blocked")
		return nil
	}
}

func TestTransfer(t *testing.T) {
	r, w := pipe(t)
	in, out := stream(t, r), stream(t, w)
	want := bytes.Repeat([]byte("0123456789"), 100_000) // more than a pipe holds
	sent := make(chan error, 1)
	go func() {
		_, err := out.Write(want)
		sent <- errors.Join(err, out.Close())
	}()
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := result(t, sent); err != nil {
		t.Error(err)
	}
}

func TestInterrupt(t *testing.T) {
	for name, call := range map[string]func(in, out *Stream) error{
		"read": func(in, _ *Stream) error {
			_, err := in.Read(make([]byte, 1))
			return err
		},
		"write": func(_, out *Stream) error {
			_, err := out.Write(make([]byte, 1<<20))
			return err
		},
		"hangup": func(_, out *Stream) error { return out.AwaitHangup() },
	} {
		t.Run(name, func(t *testing.T) {
			r, w := pipe(t)
			in, out := stream(t, r), stream(t, w)
			ended := make(chan error, 1)
			go func() { ended <- call(in, out) }()
			in.Interrupt()
			out.Interrupt()
			if err := result(t, ended); !errors.Is(err, ErrInterrupted) {
				t.Errorf("blocked: %v", err)
			}
			if err := call(in, out); !errors.Is(err, ErrInterrupted) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// The reader of a pipe goes: AwaitHangup returns, and writing is an error.
func TestHangup(t *testing.T) {
	r, w := pipe(t)
	out := stream(t, w)
	gone := make(chan error, 1)
	go func() { gone <- out.AwaitHangup() }()
	r.Close()
	if err := result(t, gone); err != nil {
		t.Error(err)
	}
	if _, err := out.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
}

// A regular file is always ready, and nobody is at its other end.
func TestFile(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := stream(t, f)
	if _, err := s.Write([]byte("text")); err != nil {
		t.Error(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); string(got) != "text" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.AwaitHangup() }()
	s.Interrupt()
	if err := result(t, ended); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
}
