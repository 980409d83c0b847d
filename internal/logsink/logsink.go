// Package logsink writes a log to a file that may be slow, blocked or gone, without letting the
// program depend on that: lines that can't be written are dropped and counted.
package logsink

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// maxQueued bounds what waits to be written in bytes, some thousand lines.
	maxQueued = 256 << 10

	// flushTimeout bounds how long Close waits for what is queued to be written.
	flushTimeout = time.Second

	// interruptTimeout bounds how long Close then waits for the write that it has interrupted.
	interruptTimeout = 100 * time.Millisecond
)

// Output is where a Writer writes. Interrupt ends a Write that is blocked, and all later ones.
type Output interface {
	io.Writer
	Interrupt()
}

// Writer is an io.Writer that never blocks and never fails: a goroutine writes to the output. All
// methods may be called concurrently.
type Writer struct {
	out  Output
	note func(dropped int) []byte // may be nil

	wake chan struct{} // has room for one
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // guards all below
	queue   []entry
	size    int    // of the queue and of what is being written, in bytes
	dropped int    // lines that no note has told of
	total   uint64 // lines that were dropped
	failing bool
	closed  bool
}

// entry is a text to write.
type entry struct {
	text  []byte
	lines int  // that are missing in the log if this isn't written
	note  bool // about lines that are missing already

	reached chan struct{} // closed when all before is written; nil for a text
}

// New returns a Writer that writes to out, and starts its goroutine, which Close ends. When lines
// have been dropped, a later one, made by note, gives their number, unless note is nil.
func New(out Output, note func(dropped int) []byte) *Writer {
	w := &Writer{out: out, note: note, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write queues p, which it copies. It drops p when too much is queued, and once the Writer is
// closed. A call should write whole lines.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return len(p), nil
	case w.size+len(p) > maxQueued, w.dropped > 0 && w.size > maxQueued/2:
		// Lines are dropped until half of the queue is free, so that the gaps are few and long.
		w.dropped += countLines(p)
		w.total += uint64(countLines(p))
		return len(p), nil
	}
	w.addNoteLocked()
	w.addLocked(entry{text: bytes.Clone(p), lines: countLines(p)})
	return len(p), nil
}

// Dropped returns how many lines were dropped so far.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// Flush waits, but not for long, until what is queued is written.
func (w *Writer) Flush() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	reached := make(chan struct{})
	w.queue = append(w.queue, entry{reached: reached})
	w.addLocked(entry{}) // wakes the goroutine
	w.mu.Unlock()
	timer := time.NewTimer(flushTimeout)
	defer timer.Stop()
	select {
	case <-reached:
	case <-timer.C:
	}
}

// Close writes what is queued, followed by last, and ends the goroutine. When the output takes too
// long, Close gives up; it reports whether the goroutine has ended, so that the output is free.
// Only the first call has an effect.
func (w *Writer) Close(last []byte) (ended bool) {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		w.addNoteLocked()
		w.addLocked(entry{text: bytes.Clone(last), lines: countLines(last)})
	}
	w.mu.Unlock()
	if w.ended(flushTimeout) {
		return true
	}
	w.out.Interrupt()
	return w.ended(interruptTimeout) // a write that can't be interrupted ends with the process
}

// ended waits until the goroutine has ended, for a while, and reports whether it has.
func (w *Writer) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-w.done:
		return true
	case <-timer.C:
		return false
	}
}

// addNoteLocked queues the note about dropped lines, if there are any.
func (w *Writer) addNoteLocked() {
	if w.dropped > 0 && w.note != nil {
		w.addLocked(entry{text: w.note(w.dropped), lines: w.dropped, note: true})
	}
	w.dropped = 0
}

func (w *Writer) addLocked(e entry) {
	if len(e.text) > 0 {
		w.queue = append(w.queue, e)
		w.size += len(e.text)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes what is queued until the Writer is closed.
func (w *Writer) run() {
	defer close(w.done)
	for {
		e, more := w.next()
		switch {
		case e.reached != nil:
			close(e.reached)
		case e.text != nil:
			w.write(e)
		case more:
			<-w.wake
		default:
			return
		}
	}
}

// next takes the next entry from the queue. If there is none, it reports whether there may be more.
func (w *Writer) next() (e entry, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 && !w.failing && !w.closed {
		w.addNoteLocked()
	}
	if len(w.queue) == 0 {
		w.queue = nil // releases what a burst has left behind
		return entry{}, !w.closed
	}
	e = w.queue[0]
	w.queue[0] = entry{}
	w.queue = w.queue[1:]
	return e, true
}

// write writes an entry, which stays counted until then. The output may take the next one even
// though it has not taken this one: a disk that was full may have room again.
func (w *Writer) write(e entry) {
	_, err := w.out.Write(e.text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size -= len(e.text)
	w.failing = err != nil
	if w.failing {
		w.dropped += e.lines
		if !e.note {
			w.total += uint64(e.lines)
		}
	}
}

// countLines returns the number of lines in a text; a part of a line is one.
func countLines(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}
