// Package stall measures how long something has made no progress.
package stall

import "time"

// maxStep is the most that one look adds. Whoever waits looks more often than that, unless its
// process was stopped or its machine slept. Then nobody could make progress, or nobody saw it.
const maxStep = 3 * time.Second

// A Watch adds up the time without progress, from look to look. Its zero value begins with the
// first look. It is not safe for concurrent use.
type Watch struct {
	looked  time.Time
	stalled time.Duration
}

// Look returns how long there has been no progress. Progress reports whether there has been some
// since the last look.
func (w *Watch) Look(progress bool) time.Duration {
	now := time.Now()
	switch {
	case progress || w.looked.IsZero():
		w.stalled = 0
	default:
		w.stalled += min(now.Sub(w.looked), maxStep)
	}
	w.looked = now
	return w.stalled
}
