package tunnel

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"culvert/certs"
	"culvert/internal/state"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// A Local with several remotes has a session with one of them, for all new streams. When that loses
// its carrier for long, or is refused another one, new streams go to the next remote that answers;
// the old session is resumed meanwhile and kept until its streams have ended, as if its remote were
// shutting down. Only its flows of datagrams don't wait for a carrier: see moveFlows. While the
// session is not with the best remote, another one to a better is kept as well, which takes over
// once it has lasted.

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

// failoverAfter and failbackAfter are those of the configuration, or the defaults.
func (l *Local) failoverAfter() time.Duration {
	return cmp.Or(l.cfg.FailoverAfter, DefaultFailoverAfter)
}

func (l *Local) failbackAfter() time.Duration {
	return cmp.Or(l.cfg.FailbackAfter, DefaultFailbackAfter)
}

// attemptsToAll returns what makes attempts to each remote.
func (l *Local) attemptsToAll() []*localAttempts {
	var all []*localAttempts
	for _, to := range l.remotes {
		all = append(all, l.attempts(to))
	}
	return all
}

// searchFirst tries until there is a session with one of the remotes, until an error is final, or
// until the configured time is over.
func (l *Local) searchFirst(
	ctx context.Context, attempts []*localAttempts,
) (*localConnection, error) {
	began := time.Now()
	first := func(
		ctx context.Context, a *localAttempts, failed func(error),
	) (*localConnection, error) {
		return l.connectFirst(ctx, a, failed, began)
	}
	var candidates []*candidate
	for _, a := range attempts {
		candidates = append(candidates, &candidate{a, first, always})
	}
	return l.search(ctx, candidates, l.failoverAfter(), l.cfg.Wait != 0)
}

// searchAgain tries until the lost session of last has another carrier, or there is another session
// with one of the remotes: with the same one by preference, for a while. Without last, or if it is
// hopeless, the best remote is the first to be tried.
func (l *Local) searchAgain(
	ctx context.Context, last *localConnection, attempts []*localAttempts, hopeless bool,
) (*localConnection, error) {
	for _, a := range attempts {
		a.level = zerolog.WarnLevel
		if last == nil || a.to != last.connector {
			a.pause.reset()
		}
	}
	var candidates []*candidate
	if last != nil {
		own := attempts[last.connector.place]
		resume := func(
			ctx context.Context, a *localAttempts, failed func(error),
		) (*localConnection, error) {
			return l.connectAgain(ctx, last, a, failed)
		}
		candidates = append(candidates, &candidate{own, resume, isRefusal})
	}
	for _, a := range attempts {
		if last == nil || a.to != last.connector {
			candidates = append(candidates, &candidate{a, l.connectAnew, always})
		}
	}
	patience := l.failoverAfter()
	if hopeless {
		patience = 1
	}
	return l.search(ctx, candidates, patience, true)
}

// isRefusal reports whether a remote, or a server in front of it, has answered an attempt to
// connect with a refusal, so that nothing is won by waiting for it.
func isRefusal(err error) bool {
	_, answered := errors.AsType[*StatusError](err)
	return answered || isFinal(err) || isRoomError(err)
}

// errBetterRemote is the cause for which a session is replaced that goes on.
var errBetterRemote = errors.New("a better remote is back")

// awaitBetter keeps a session with a remote that is better than that of conn, and returns it once
// it has lasted for long enough. It returns nil when ctx is done.
func (l *Local) awaitBetter(
	ctx context.Context, conn *localConnection, attempts []*localAttempts,
) *localConnection {
	var pause backoff
	for ctx.Err() == nil {
		var candidates []*candidate
		for _, a := range attempts[:conn.connector.place] {
			a.level = zerolog.DebugLevel
			candidates = append(candidates, &candidate{a, l.connectBetter, always})
		}
		if len(candidates) == 0 {
			<-ctx.Done()
			return nil
		}
		better, err := l.search(ctx, candidates, l.failoverAfter(), true)
		if err == nil && l.lasts(ctx, better) {
			return better
		}
		if err == nil {
			l.discard(better)
		}
		sleep(ctx, pause.next())
	}
	return nil
}

// connectBetter is connectAnew for a remote that may have a retired session. Without a carrier,
// that would make room for the new one where the client may have no more, and its streams be cut.
func (l *Local) connectBetter(
	ctx context.Context, attempts *localAttempts, failed func(error),
) (*localConnection, error) {
	for away := l.awayFrom(attempts.to); away != nil; away = l.awayFrom(attempts.to) {
		away.AwaitCarrier(ctx) // or its end
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return l.connectAnew(ctx, attempts, failed)
}

// awayFrom returns a retired session with a remote that has lost its carrier, nil if there is none.
func (l *Local) awayFrom(remote *localConnector) *mux.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	for kept := range l.retired {
		session := kept.conn.session
		if kept.conn.connector == remote && session.Err() == nil && session.Stats().Away {
			return session
		}
	}
	return nil
}

// connectAnew is connectAgain for a new session.
func (l *Local) connectAnew(
	ctx context.Context, attempts *localAttempts, failed func(error),
) (*localConnection, error) {
	return l.connectAgain(ctx, nil, attempts, failed)
}

// lasts reports whether a session keeps its carrier, and its remote doesn't drain, until it has
// lasted for long enough.
func (l *Local) lasts(ctx context.Context, conn *localConnection) bool {
	l.setStandby(conn)
	defer l.setStandby(nil)
	waiting, cancel := context.WithTimeout(ctx, l.failbackAfter())
	defer cancel()
	var draining sync.WaitGroup
	defer draining.Wait()
	drains := make(chan struct{})
	draining.Go(func() {
		if conn.session.AwaitDraining(waiting) == nil {
			close(drains)
			cancel()
		}
	})
	lost := conn.session.AwaitLoss(waiting) == nil || conn.session.Err() != nil
	select {
	case <-drains:
		return false
	default:
		return !lost && ctx.Err() == nil
	}
}

func (l *Local) setStandby(conn *localConnection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.standby = conn
}

// switchTo makes another session the one for new streams, and keeps the old one, if it lives, until
// its streams have ended.
func (l *Local) switchTo(ctx context.Context, conn, last *localConnection, reason error) {
	l.noteSwitch(conn, last, reason)
	if last.session.Err() == nil {
		l.retire(ctx, last)
	} else {
		l.sums.end(last.session)
	}
	l.set(conn, nil)
	if reason != errBetterRemote {
		l.reopen()
		l.resetUnconfirmed(last.session)
	}
	l.moveReverse(last.session)
	l.sums.begin(conn.session)
	l.logConnected(conn)
}

// resetUnconfirmed resets the streams of a session that is away for which clients have got success
// before the remote's answer. Those that have sent nothing are opened in another session then. The
// remote may have passed on what the others have sent, so that must not be repeated; but a client
// that sees a reset can decide.
func (l *Local) resetUnconfirmed(session *mux.Session) {
	if n := session.ResetUnconfirmed(); n > 0 {
		l.cfg.Log.Warn().Int("streams", n).
			Msg("connections reset that the lost remote had not confirmed")
	}
}

// noteSwitch logs that new streams go to another remote.
func (l *Local) noteSwitch(conn, last *localConnection, reason error) {
	l.event(state.EventSwitched, conn, reason)
	l.cfg.Log.Warn().
		Stringer("from", last.connector.address).
		Stringer("remote", conn.connector.address).
		AnErr("reason", reason).
		Int("streams", last.session.Stats().Streams).
		Msg("new streams go to another remote")
}

// lossReason returns why new streams can't go to the session of a connection.
func lossReason(conn *localConnection) error {
	if err := conn.session.Err(); err != nil {
		return err
	}
	return conn.session.LossCause()
}
