package tunnel

import (
	"context"
	"math/rand/v2"
	"time"

	"culvert/internal/state"
	"culvert/tunnel/mux"
)

// A session moves when its client is told to take another for new streams, as if the remote were
// shutting down: the client connects again, to whichever node a load balancer chooses, and its old
// streams continue in the old session until they end, or for the DrainTimeout. Listeners for -R
// move first.

// MoveReason is why a client is told to open another session.
type MoveReason int

// The reasons.
const (
	MoveAge      MoveReason = iota // the session is older than RemoteConfig.MaxSessionAge
	MoveRequest                    // MoveSessions was called
	MoveShutdown                   // the remote stops
)

// String returns the reason's name.
func (r MoveReason) String() string { return [...]string{"age", "reload", "shutdown"}[r] }

// sessionMove is how far a session is on its way to another. The Remote's mutex guards it.
type sessionMove struct {
	timer *time.Timer // asks it to move; nil for none
	asked bool        // it moves now, or once it has a carrier
	begun bool        // its client is told
	cut   bool        // its streams were cut short
}

// MoveSessions makes all sessions move, one after the other, drainPause apart on average. It
// doesn't wait. It returns how many sessions there are, and the time over which they are told.
func (r *Remote) MoveSessions() (n int, spread time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	spread = time.Duration(len(r.sessions)) * drainPause
	for session, a := range r.sessions {
		if a.move.asked || a.revoked {
			continue
		}
		n++
		r.scheduleMove(session, a, rand.N(spread), MoveRequest)
	}
	r.cfg.Log.Info().Int("sessions", n).Dur("within", spread).
		Msg("all sessions move, one after the other")
	return n, spread
}

// watchAge makes a new session move when it is as old as it may become, up to moveJitter of that
// sooner, so that sessions that began together don't all move together. Called with the mutex held.
func (r *Remote) watchAge(session *mux.Session, a *admission) {
	if age := r.cfg.MaxSessionAge; age > 0 {
		r.scheduleMove(session, a, age-rand.N(age/moveJitter+1), MoveAge)
	}
}

// scheduleMove makes a session move after a time, and not when it was due before. Called with the
// mutex held.
func (r *Remote) scheduleMove(
	session *mux.Session, a *admission, after time.Duration, why MoveReason,
) {
	if a.move.timer != nil {
		a.move.timer.Stop()
	}
	a.move.timer = time.AfterFunc(after, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sessions[session] != a || a.move.asked || a.revoked || r.draining {
			return
		}
		a.move.asked = true
		r.serving.Go(func() { r.move(session, a, why) }) // a call of ServeHTTP still serves it
	})
}

// move tells a session's client to open another, and ends the session once its streams have ended
// or the DrainTimeout is over. A session without a carrier has its time once it has one: its client
// may be asleep, and would lose what it has.
func (r *Remote) move(session *mux.Session, a *admission, why MoveReason) {
	if session.AwaitCarrier(r.ctx) != nil {
		return // it has ended
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DrainTimeout)
	defer cancel()
	if r.beginMove(session, a, why) {
		r.drain(ctx, session)
	}
}

// beginMove ends the listeners of a session that moves, and makes it hold no place, since its
// client may come back to this node. It reports whether the session still is to move.
func (r *Remote) beginMove(session *mux.Session, a *admission, why MoveReason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[session] != a || a.revoked || r.draining {
		return false
	}
	a.move.begun = true
	r.uncount(a)
	for b := range r.binds {
		if b.session == session {
			b.end()
		}
	}
	log := r.sessionLog(a)
	log.Info().Stringer("reason", why).Int("streams", session.Stats().Streams).
		Msg("session moves: its client is told to open another")
	r.cfg.Observer.Move(why)
	r.eventOf(state.EventMoving, a, why.String())
	return true
}

// eventOf adds an event of a session to those that observers see. Called with the mutex held.
func (r *Remote) eventOf(kind string, a *admission, reason string) {
	known := r.describe(a)
	r.cfg.Events.Add(state.Event{
		Kind: kind, Reason: reason,
		Session: known.ID, Key: known.Key, Comment: known.Comment, From: known.From,
	})
}

// isMoving reports whether a session takes no new listeners, since its client has been told to open
// another. Called with the mutex held.
func (r *Remote) isMoving(session *mux.Session) bool {
	a := r.sessions[session]
	return a != nil && a.move.begun
}
