package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"culvert/internal/cli/exit"
	"culvert/internal/stdstream"
	"culvert/tunnel"
)

// stdioTask joins standard input and output to the target of -W.
type stdioTask struct {
	in, out *stdstream.Stream
	ended   chan struct{} // closed when standard input is at its end, or fails
	over    chan struct{} // closed when nothing is joined any more
	sent    chan error    // gets why not all of standard input was sent, or nil
	unread  atomic.Bool   // both streams have ended for the user
	once    sync.Once
	cut     context.CancelFunc
	running sync.WaitGroup
}

// startStdio joins standard input and output to target until both are at their end, ctx is done, or
// stop is called. It sends the result to done, and nil once standard input is at its end and nobody
// is left to read standard output; so done needs room for two.
func startStdio(
	ctx context.Context, node *tunnel.Local, target string, done chan<- error,
) *stdioTask {
	t := &stdioTask{
		in: stdstream.New(os.Stdin), out: stdstream.New(os.Stdout), ended: make(chan struct{}),
		over: make(chan struct{}), sent: make(chan error, 1),
	}
	joined, cut := context.WithCancel(ctx)
	t.cut = cut
	t.running.Go(func() {
		defer close(t.over)
		err := node.Stdio(joined, target, t, stdout{t}, func(err error) { t.sent <- err })
		switch {
		case ctx.Err() != nil:
			err = nil // it was to stop
		case err != nil:
			err = stdioFailure(target, err)
		}
		done <- err
	})
	t.running.Go(func() {
		select {
		case <-t.ended:
		case <-joined.Done():
			return
		}
		if t.out.AwaitHangup() == nil {
			t.unread.Store(true)
			done <- nil
		}
	})
	return t
}

var errUnsent = errors.New("not all of standard input was sent")

// unsent returns why not all of standard input was sent, or nil. The node has ended. While it
// drained, what was sent was under way, although nobody was left to read an answer.
func (t *stdioTask) unsent(target string) error {
	<-t.over
	select {
	case err := <-t.sent:
		if errors.Is(err, net.ErrClosed) { // the node's session, when the drain was over
			return exit.Fail(exit.Failed, target, errUnsent, "")
		}
		if err != nil {
			return exit.Fail(exit.Failed, target, fmt.Errorf("%w: %w", errUnsent, err), "")
		}
	default: // another error has ended it
	}
	return nil
}

// stdioFailure explains why -W has ended. When standard output is a pipe that nobody reads, it has
// the status of a program that the system kills for that, and says nothing, as such a program.
func stdioFailure(target string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) && errors.Is(path.Err, syscall.EPIPE) {
		return exit.Status(exitSignal + int(syscall.SIGPIPE))
	}
	return exit.Fail(exit.Failed, target, err, "")
}

// Read reads standard input.
func (t *stdioTask) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	if err != nil && !errors.Is(err, stdstream.ErrInterrupted) {
		t.once.Do(func() { close(t.ended) })
	}
	return n, err
}

// Close ends a Read.
func (t *stdioTask) Close() error { return t.in.Close() }

// stdout is standard output.
type stdout struct{ *stdioTask }

// Write writes to standard output. What comes when nobody is left to read it doesn't end what is
// still being sent.
func (o stdout) Write(p []byte) (int, error) {
	n, err := o.out.Write(p)
	if err != nil && o.unread.Load() {
		return len(p), nil
	}
	return n, err
}

// Close ends a Write.
func (o stdout) Close() error { return o.out.Close() }

// stop cuts short what is left, and waits for the end.
func (t *stdioTask) stop() {
	t.cut()
	t.running.Wait()
	t.in.Release()
	t.out.Release()
}
