package socks

import (
	"errors"
	"os"
	"time"

	"culvert/internal/clientwatch"
	"culvert/internal/stall"
)

var errUntaken = errors.New("its target takes nothing of the request's body")

// uploadWriter is what the body is written to: the target, and nothing once that takes no more.
// The client is then heard all the same: many look for an answer only when they have sent all.
type uploadWriter struct{ u *upload }

// Write fails only when the client has left too.
func (w uploadWriter) Write(p []byte) (int, error) {
	u := w.u
	u.mu.Lock()
	// Ahead of the write, since the response to the last piece may be there before its end.
	u.begun, u.complete = true, u.body.done()
	discards := u.discards
	u.mu.Unlock()
	if !discards {
		err := u.pass(p)
		if err == nil {
			return len(p), nil
		}
		left := errors.Is(err, errUntaken)
		u.mu.Lock()
		u.discards = true // also by reusable: the target has a part of the piece
		if u.over.IsZero() && !left {
			u.target.boundSilence() // it may hang
		}
		u.mu.Unlock()
		if left {
			return 0, err
		}
	}
	u.discarded += int64(len(p))
	return len(p), nil
}

// pass sends a piece of the body to the target. Nobody reads from the client meanwhile, so that it
// is looked at each second: when it has left and the target takes nothing for leftTimeout, the
// error is errUntaken.
func (u *upload) pass(p []byte) error {
	moved := time.Now()
	var left stall.Watch
	left.Look(true)
	for u.boundWrite(moved) {
		n, err := u.target.Write(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if p = p[n:]; n > 0 {
			moved = time.Now()
		}
		if left.Look(n > 0 || !clientwatch.HasLeft(u.c.Conn)) >= leftTimeout {
			return errUntaken
		}
	}
	return os.ErrDeadlineExceeded
}

// boundWrite sets the deadline of the next write to the target, which took something at moved, and
// reports whether there is to be one.
func (u *upload) boundWrite(moved time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, end := time.Now(), moved.Add(bodyTimeout)
	if !u.over.IsZero() {
		if moved.Before(u.over) {
			moved = u.over
		}
		end = moved.Add(u.stall())
	}
	if !now.Before(end) {
		return false
	}
	by := now.Add(leftCheck)
	if end.Before(by) {
		by = end
	}
	if u.writeBy.Before(now.Add(leftCheck/2)) || by.Before(u.writeBy) { // not for each piece
		u.writeBy = by
		u.target.SetWriteDeadline(by)
	}
	return true
}

// stall is how long a target that has answered may take none of the body before it is taken to
// want no more. mu is held.
func (u *upload) stall() time.Duration {
	if u.last {
		return lingerStall
	}
	return halfClosedTimeout
}
