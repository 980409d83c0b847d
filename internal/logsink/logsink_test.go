package logsink

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// output is an Output that a test blocks and breaks.
type output struct {
	mu          sync.Mutex // guards all below
	text        strings.Builder
	blocked     chan struct{} // nil, or a Write waits until it is closed
	err         error
	interrupted chan struct{}
}

func newOutput() *output { return &output{interrupted: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	blocked := o.blocked
	o.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-o.interrupted:
			return 0, errors.New("interrupted")
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	return o.text.Write(p)
}

func (o *output) Interrupt() { close(o.interrupted) }

func (o *output) block() (release func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	blocked := make(chan struct{})
	o.blocked = blocked
	return func() {
		o.mu.Lock()
		o.blocked = nil
		o.mu.Unlock()
		close(blocked)
	}
}

func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func note(dropped int) []byte { return fmt.Appendf(nil, "dropped %d\n", dropped) }

// Lines come out in their order, and Close waits for the last.
func TestWriter(t *testing.T) {
	out := newOutput()
	w := New(out, note)
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	w.Close([]byte("the end\n"))
	if got := out.String(); got != want.String()+"the end\n" {
		t.Errorf("got %q", got)
	}
	w.Write([]byte("late\n"))
	w.Close([]byte("later\n"))
	if got := out.String(); strings.Contains(got, "late") {
		t.Errorf("written after Close: %q", got)
	}
}

// An output that blocks costs its own lines only: callers don't wait, memory is bounded, and a note
// in the place of the gap gives the number of the lines that are missing.
func TestBlockedOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = 10000
		out := newOutput()
		release := out.block()
		w := New(out, note)
		began := time.Now()
		for i := range lines {
			fmt.Fprintf(w, "%0100d\n", i)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("callers waited %v", took)
		}
		if w.size > maxQueued {
			t.Errorf("%d bytes are queued", w.size)
		}
		release()
		synctest.Wait()
		fmt.Fprintf(w, "%0100d\n", lines)
		w.Close(nil)
		checkLines(t, out.String(), lines+1)
	})
}

// checkLines checks that the lines that are missing are those that the notes count.
func checkLines(t *testing.T, text string, want int) {
	t.Helper()
	next, noted := 0, 0
	for line := range strings.Lines(text) {
		var dropped, number int
		if _, err := fmt.Sscanf(line, "dropped %d\n", &dropped); err == nil {
			next += dropped
			noted++
			continue
		}
		if _, err := fmt.Sscanf(line, "%d\n", &number); err != nil || number != next {
			t.Fatalf("line %q, want number %d", line, next)
		}
		next++
	}
	if next != want || noted == 0 {
		t.Errorf("%d lines are written or noted, of %d, with %d notes", next, want, noted)
	}
}

// The note comes even when there is no line after the gap.
func TestNoteWithoutAnotherLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newOutput()
		release := out.block()
		w := New(out, note)
		for i := range 10000 {
			fmt.Fprintf(w, "%0100d\n", i)
		}
		release()
		synctest.Wait()
		checkLines(t, out.String(), 10000)
		w.Close(nil)
	})
}

// An output that fails, such as a pipe without a reader or a full disk, is tried again with the
// next line, and not before.
func TestFailingOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newOutput()
		w := New(out, note)
		out.fail(errors.New("no space"))
		for i := range 10 {
			fmt.Fprintf(w, "%d\n", i)
			synctest.Wait()
		}
		out.fail(nil)
		fmt.Fprintf(w, "%d\n", 10)
		w.Close(nil)
		if got, want := out.String(), "dropped 10\n10\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Close gives up on an output that stays blocked, and its goroutine ends.
func TestCloseBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newOutput()
		out.block()
		w := New(out, note)
		fmt.Fprintln(w, "a line")
		began := time.Now()
		w.Close([]byte("the end\n"))
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("Close took %v", took)
		}
		select {
		case <-w.done:
		default:
			t.Error("the goroutine has not ended")
		}
	})
}

func TestConcurrentWriters(t *testing.T) {
	out := newOutput()
	w := New(out, note)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 200 {
				fmt.Fprintln(w, "a line")
			}
		})
	}
	writers.Wait()
	w.Close(nil)
	if got := strings.Count(out.String(), "a line\n"); got != 1600 {
		t.Errorf("%d lines", got)
	}
}

// TestFlush shows that what was written is at the output when Flush returns, and that Flush doesn't
// wait for long where nobody reads.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newOutput()
		w := New(out, note)
		w.Flush()
		w.Write([]byte("one\n"))
		w.Write([]byte("two\n"))
		w.Flush()
		if got := out.String(); got != "one\ntwo\n" {
			t.Errorf("the output has %q", got)
		}
		release := out.block()
		w.Write([]byte("three\n"))
		start := time.Now()
		w.Flush()
		if took := time.Since(start); took != flushTimeout {
			t.Errorf("it waits for %v, want %v", took, flushTimeout)
		}
		release()
		w.Close(nil)
		w.Flush()
	})
}
