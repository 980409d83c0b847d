package tunnel

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/tunnel/mux"
)

// Shutdown takes no new clients, drains the sessions until their streams have ended and delivered
// what they brought, or until ctx is done, and ends the rest with mux.CodeDraining. Until then
// sessions that have lost their carriers are resumed. When it returns, all goroutines of the Remote
// have ended.
func (r *Remote) Shutdown(ctx context.Context) {
	r.cfg.Events.Add(state.Event{Kind: state.EventDraining})
	r.mu.Lock()
	r.draining = true
	r.endBinds(true)
	var drains sync.WaitGroup
	spread := r.drainSpread()
	for session := range r.sessions {
		drains.Go(func() {
			sleep(ctx, rand.N(spread))
			r.drain(ctx, session)
		})
	}
	r.mu.Unlock()
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

// drainSpread is the time over which sessions are told that the node drains, so that their clients
// don't all connect to other nodes at once. Called with the mutex held.
func (r *Remote) drainSpread() time.Duration {
	return 1 + min(time.Duration(len(r.sessions))*drainPause, r.cfg.DrainTimeout/4)
}

// drain drains a session, and ends it.
func (r *Remote) drain(ctx context.Context, session *mux.Session) {
	if session.Drain(ctx) == nil {
		session.Close()
		return
	}
	r.cfg.Bounds.Refused(bounds.Drain)
	r.cfg.Log.Warn().Int("streams", session.Stats().Streams).Msg("streams cut short")
	session.CloseWith(mux.CodeDraining, "")
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
