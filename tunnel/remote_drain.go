package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// Shutdown takes no new clients, drains the sessions until their streams have ended and delivered
// what they brought, or until ctx is done, and ends the rest with mux.CodeDraining. Until then
// sessions that have lost their carriers are resumed. When it returns, all goroutines of the Remote
// have ended.
func (r *Remote) Shutdown(ctx context.Context) {
	r.cfg.Events.Add(state.Event{Kind: state.EventDraining})
	drains := r.beginDrain(ctx)
	drains.Wait()
	r.awaitSessions(ctx)
	r.awaitPredecessor(ctx)
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.stop()
	r.serving.Wait()
	r.gate.closeLogs()
	if r.fallback != nil {
		r.fallback.transport.CloseIdleConnections()
	}
}

// beginDrain drains all sessions on goroutines, until ctx is done, and ends them. All have the same
// time, but they are told one after the other, and so end one after the other.
func (r *Remote) beginDrain(ctx context.Context) *sync.WaitGroup {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	r.endBinds(true)
	drains := &sync.WaitGroup{}
	spread := r.drainSpread()
	for session, a := range r.sessions {
		if !a.move.begun {
			r.cfg.Observer.Move(MoveShutdown)
		}
		after := rand.N(spread + 1)
		drains.Go(func() {
			sleep(ctx, after)
			draining, cancel := endingSooner(ctx, spread-after)
			defer cancel()
			r.drain(draining, session)
		})
	}
	return drains
}

// drainSpread is the time over which sessions are told that the node drains, so that their clients
// don't all connect to other nodes at once. Called with the mutex held.
func (r *Remote) drainSpread() time.Duration {
	return min(time.Duration(max(len(r.sessions)-1, 0))*drainPause, r.cfg.DrainTimeout/4)
}

// endingSooner returns a context that ends sooner than ctx, if that has a deadline.
func endingSooner(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-by))
}

// drain drains a session, and ends it.
func (r *Remote) drain(ctx context.Context, session *mux.Session) {
	err := session.Drain(ctx)
	if _, ended := errors.AsType[*mux.SessionError](err); err == nil || ended { // by the client
		session.Close()
		return
	}
	r.noteCut(session)
	session.CloseWith(mux.CodeDraining, "")
}

// noteCut counts and logs, once, that the streams of a session are cut short.
func (r *Remote) noteCut(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.sessions[session]
	if a == nil || a.move.cut {
		return
	}
	a.move.cut = true
	r.cfg.Bounds.Refused(bounds.Drain)
	level := zerolog.WarnLevel
	if a.move.begun { // as its age, or somebody, has asked for
		level = zerolog.InfoLevel
	}
	streams := session.Stats().Streams
	log := r.sessionLog(a)
	log.WithLevel(level).Int("streams", streams).Msg("streams cut short")
	r.eventOf(state.EventStreamsCut, a, fmt.Sprintf("%d streams took longer than the drain", streams))
}

// awaitSessions waits until no session is served any more or ctx is done.
func (r *Remote) awaitSessions(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.sessions) > 0 && ctx.Err() == nil {
		r.changed.Wait()
	}
}

// countRoute adds n to the number of sessions with a value of sessionHeader. Called with the mutex
// held.
func (r *Remote) countRoute(route string, n int) {
	before := r.routes[route]
	if r.routes[route] += n; r.routes[route] == 0 {
		delete(r.routes, route)
	}
	to := r.moving.successor
	if here := r.routes[route] > 0; to != nil && route != "" && here != (before > 0) {
		to.Route(route, here)
	}
}
