//go:build unix

package stdstream

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

// console is a file whose Close waits for a Read that is blocked, as that of a Windows console.
type console struct {
	line   chan string   // what the user types
	begun  chan struct{} // has a value for each Read
	closed chan struct{}
	mu     sync.Mutex // held by Read
}

func (c *console) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun <- struct{}{}
	line, open := <-c.line
	if !open {
		return 0, io.EOF
	}
	return copy(p, line), nil
}

func (c *console) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.closed)
	return nil
}

// A read of a console, which nothing ends, is left behind with its buffer, and so is the close that
// would wait for it.
func TestDetachedRead(t *testing.T) {
	c := &console{
		line: make(chan string, 1), begun: make(chan struct{}, 2), closed: make(chan struct{}),
	}
	var d detachedReader
	done := make(chan struct{})
	p := make([]byte, 100)
	c.line <- "first"
	if n, err := d.read(c, p, done); string(p[:n]) != "first" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}

	ended := make(chan error, 1)
	go func() {
		_, err := d.read(c, p, done)
		ended <- err
	}()
	<-c.begun
	<-c.begun
	close(done)
	if err := result(t, ended); !errors.Is(err, ErrInterrupted) {
		t.Errorf("blocked: %v", err)
	}
	if _, err := d.read(c, p, done); !errors.Is(err, ErrInterrupted) {
		t.Errorf("afterwards: %v", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- d.close(c) }()
	if err := result(t, closed); err != nil {
		t.Error(err)
	}
	c.line <- strings.Repeat("x", len(p)) // comes too late
	<-c.closed
	if got := string(p[:5]); got != "first" {
		t.Errorf("the caller's buffer has changed to %q", got)
	}
}

// A reader that doesn't block is closed as any other, and its error is reported.
func TestDetachedClose(t *testing.T) {
	r, w := io.Pipe()
	w.CloseWithError(io.ErrUnexpectedEOF)
	var d detachedReader
	if _, err := d.read(r, make([]byte, 1), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if err := d.close(closer{io.ErrClosedPipe}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

type closer struct{ err error }

func (c closer) Close() error { return c.err }
