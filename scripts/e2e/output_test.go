//go:build linux

package e2e

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxOutput is how many bytes of a process's output are kept, the most recent ones.
const maxOutput = 1 << 20

// output collects what a process prints and lets a test wait for a line of it.
type output struct {
	mu      sync.Mutex // guards the fields below
	kept    []byte
	lost    bool          // sessionLost was written
	changed chan struct{} // closed and replaced with each write
}

// sessionLost is in the line of a log about a session that ended because its connection was lost.
const sessionLost = "session lost"

// hasLost reports whether sessionLost was ever written.
func (o *output) hasLost() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, p...)
	recent := o.kept[max(0, len(o.kept)-len(p)-len(sessionLost)):]
	o.lost = o.lost || bytes.Contains(recent, []byte(sessionLost))
	if len(o.kept) > maxOutput {
		o.kept = bytes.Clone(o.kept[len(o.kept)-maxOutput/2:])
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	text, _ := o.get()
	return text
}

func (o *output) get() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept), o.changed
}

// waitLine waits for a complete line that contains text and returns it. It fails the test if the
// process exits first, or after timeout.
func (o *output) waitLine(t *testing.T, p *process, text string, timeout time.Duration) string {
	t.Helper()
	deadline := time.After(timeout)
	exited := p.exited
	for {
		kept, changed := o.get()
		for line := range strings.Lines(kept) {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
				return strings.TrimSuffix(line, "\n")
			}
		}
		if exited == nil {
			t.Fatalf("%s exited with status %d before it printed %q", p.name, p.status(), text)
		}
		select {
		case <-changed:
		case <-exited:
			exited = nil // look once more: the output is complete now
		case <-deadline:
			t.Fatalf("%s did not print %q within %v", p.name, text, timeout)
		}
	}
}
