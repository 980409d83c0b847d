package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"culvert/certs"
	"culvert/internal/state"
)

// candidate is a remote that is searched for a connection.
type candidate struct {
	attempts *localAttempts
	try      func(context.Context, *localAttempts, func(error)) (*localConnection, error)

	// moves reports whether the next candidate needn't wait any longer after a failed attempt.
	moves func(error) bool
}

// found is what the search at a candidate has come to.
type found struct {
	*candidate
	conn *localConnection
	err  error // no more attempts can help
}

// always is a candidate's moves.
func always(error) bool { return true }

// search makes attempts to connect to all candidates, each on a goroutine and with pauses of its
// own, until one is connected; that one is returned. A candidate begins when the one before it has
// failed, or has had the time patience. One whose remote refuses is tried on, if retries is set,
// until all do: while the others can't be reached, it may be mended. The error is that of the best
// remote, if no attempts help any more, or that of ctx.
func (l *Local) search(
	ctx context.Context, candidates []*candidate, patience time.Duration, retries bool,
) (*localConnection, error) {
	if len(candidates) == 1 {
		only := candidates[0]
		return only.try(ctx, only.attempts, func(error) {})
	}
	s := &search{
		local: l, candidates: candidates, results: make(chan found, len(candidates)),
		retries: retries,
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.running.Wait()
	defer cancel()
	s.start(ctx, patience)
	return s.choose(cancel)
}

// search is one in progress.
type search struct {
	local      *Local
	candidates []*candidate
	results    chan found // gets that of each candidate
	running    sync.WaitGroup
	retries    bool // also where a remote refuses

	mu      sync.Mutex
	decided int                // candidates that have ended, or whose remotes refuse for now
	giveUp  context.CancelFunc // ends the pauses of those
}

// start starts all candidates, one after the other.
func (s *search) start(ctx context.Context, patience time.Duration) {
	var pausing context.Context
	pausing, s.giveUp = context.WithCancel(ctx)
	begin := make(chan struct{})
	close(begin)
	for _, c := range s.candidates {
		due, next := begin, make(chan struct{})
		s.running.Go(func() {
			select {
			case <-due:
			case <-ctx.Done():
				s.results <- found{c, nil, context.Cause(ctx)}
				return
			}
			moveOn := sync.OnceFunc(func() { close(next) })
			timer := time.AfterFunc(patience, moveOn)
			defer timer.Stop()
			conn, err := s.try(ctx, pausing, c, moveOn)
			s.results <- found{c, conn, err}
		})
		begin = next
	}
}

// try makes attempts to connect to a candidate. moveOn lets the next candidate begin. pausing ends
// when all have refused.
func (s *search) try(
	ctx, pausing context.Context, c *candidate, moveOn func(),
) (*localConnection, error) {
	failed := func(err error) {
		if c.moves(err) {
			moveOn()
		}
	}
	var pause time.Duration
	for told := false; ; told = true {
		conn, err := c.try(ctx, c.attempts, failed)
		moveOn() // it has ended, for whatever reason
		s.decide(1)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		if !told {
			s.local.logGivenUp(found{c, nil, err})
		}
		if !s.retries || !isRefusedFor(err) || c.attempts.pauseAgain(pausing, &pause) != nil {
			return nil, err
		}
		s.decide(-1)
	}
}

// decide adds n to the candidates that are decided.
func (s *search) decide(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decided += n; s.decided == len(s.candidates) {
		s.giveUp()
	}
}

// isRefusedFor reports whether a remote, or this side, has refused a connection for what a person
// can change.
func isRefusedFor(err error) bool { return isFinal(err) || isRemotesWord(err) }

// choose waits for the results, and ends the search once one is a connection. A better remote whose
// attempt is under way gets a moment more.
func (s *search) choose(cancel context.CancelFunc) (*localConnection, error) {
	var best *localConnection
	var failed found // at the remote that is best in order of preference
	grace := time.NewTimer(0)
	grace.Stop()
	defer grace.Stop()
	for left := len(s.candidates); left > 0; {
		select {
		case r := <-s.results:
			left--
			if r.conn == nil {
				if failed.err == nil || r.tellsMoreThan(failed) {
					failed = r
				}
				continue
			}
			best = s.better(best, r.conn)
			if s.betterUnderWay(best) {
				grace.Reset(failoverGrace)
			} else {
				cancel()
			}
		case <-grace.C:
			cancel()
		}
	}
	if best != nil {
		return best, nil
	}
	return nil, failed.err
}

// tellsMoreThan reports whether an error is the one to tell the user: that of the better remote,
// except that a remote which only has to be confirmed can be used at once.
func (r found) tellsMoreThan(other found) bool {
	asks := errors.Is(r.err, certs.ErrUnknownRemote)
	if asks != errors.Is(other.err, certs.ErrUnknownRemote) {
		return asks
	}
	return r.attempts.to.place < other.attempts.to.place
}

// logGivenUp logs why a remote isn't used while there are others: a wrong key must not go unseen.
func (l *Local) logGivenUp(r found) {
	if isRefusedFor(r.err) {
		l.event(state.EventConnectFailed, nil, r.err)
		l.cfg.Log.Warn().Stringer("remote", r.attempts.to.address).Err(r.err).
			Msg("not used: the remote, or its key, is not as it should be")
	}
}

// better returns the better of two connections, of which the first may be nil, and closes the
// other.
func (s *search) better(a, b *localConnection) *localConnection {
	switch {
	case a == nil:
		return b
	case s.rank(a.connector) < s.rank(b.connector):
		a, b = b, a
	}
	s.local.discard(a)
	return b
}

// discard ends the session of a connection that is not used after all. It doesn't wait for that: it
// may be a loss that makes it useless.
func (l *Local) discard(conn *localConnection) {
	l.retiring.Go(func() { conn.session.Close() })
}

// rank returns the place of a remote among the candidates.
func (s *search) rank(connector *localConnector) int {
	for i, c := range s.candidates {
		if c.attempts.to == connector {
			return i
		}
	}
	return len(s.candidates)
}

// betterUnderWay reports whether an attempt is under way to a remote that is better than that of a
// connection.
func (s *search) betterUnderWay(conn *localConnection) bool {
	for _, c := range s.candidates[:s.rank(conn.connector)] {
		if c.attempts.busy.Load() {
			return true
		}
	}
	return false
}
