package tunnel

import (
	"container/list"
	"context"
	"sync"
	"time"

	"culvert/tunnel/mux"
)

// FastOpen selects the targets that a Local assumes to be reachable before the remote has answered,
// which saves the client a round trip. When such a target turns out to be unreachable, its
// connection is reset.
type FastOpen uint8

// The modes. With FastOpenAuto, a stream opens at once to a target that its session has reached
// within the last 5 minutes, unless an attempt has failed since, or the remote is slow to answer
// just now: when it is lost, a stream that waits for its answer can go to another.
const (
	FastOpenAuto FastOpen = iota
	FastOpenAlways
	FastOpenNever
)

// openIn opens a stream in a session, at once if the mode allows.
func (l *Local) openIn(
	ctx context.Context, session *mux.Session, target mux.Target,
) (*mux.Stream, error) {
	switch l.cfg.FastOpen {
	case FastOpenNever:
		return session.Open(ctx, target)
	case FastOpenAlways:
		return session.OpenAtOnce(target, nil)
	}
	if l.reached.knows(session, target) && session.Responsive() {
		return session.OpenAtOnce(target, func(err error) { l.reached.note(session, target, err) })
	}
	stream, err := session.Open(ctx, target)
	l.reached.note(session, target, err)
	return stream, err
}

// reachedTargets are the targets that a session has reached recently. Those of an earlier session
// are ignored: its remote may have been another process, with other rules. All methods may be
// called concurrently.
type reachedTargets struct {
	mu      sync.Mutex // guards all below; callers may hold a session's lock
	session *mux.Session
	known   map[mux.Target]*list.Element
	order   list.List // of reachedTarget, the latest first
}

type reachedTarget struct {
	target mux.Target
	at     time.Time
}

// knows reports whether the session has reached the target recently.
func (r *reachedTargets) knows(session *mux.Session, target mux.Target) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known[target]
	return known != nil && r.session == session &&
		time.Since(known.Value.(reachedTarget).at) < reachedLife
}

// note records the result of an attempt to reach a target. A cancelled attempt counts as failed:
// the target may not have answered.
func (r *reachedTargets) note(session *mux.Session, target mux.Target, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != session {
		if err != nil {
			return
		}
		r.session, r.known = session, make(map[mux.Target]*list.Element)
		r.order.Init()
	}
	r.forget(r.known[target])
	if err == nil {
		r.known[target] = r.order.PushFront(reachedTarget{target, time.Now()})
	}
	for r.order.Len() > maxReached {
		r.forget(r.order.Back())
	}
}

// forget drops an entry, which may be nil.
func (r *reachedTargets) forget(entry *list.Element) {
	if entry != nil {
		delete(r.known, r.order.Remove(entry).(reachedTarget).target)
	}
}
