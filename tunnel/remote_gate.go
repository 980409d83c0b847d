package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/logburst"

	"github.com/rs/zerolog"
)

// remoteGate bounds what a remote gives to clients before they are admitted. All methods may be
// called concurrently.
type remoteGate struct {
	conns      *fairPlaces // for connections without a session
	handshakes *fairPlaces // for clients that are being admitted
	turn       places      // for the next handshake of a source without a session
	turnKnown  places      // and of one with a session
	penalties  *penalties  // of sources without a session
	rate       *handshakeRate
	bounds     *bounds.Counts
	refusals   *limitedLog
	shortages  *limitedLog       // for what the remote itself lacks
	headers    *limitedLog       // of the PROXY protocol that can't be used
	warnings   *logburst.Sampler // of streams that were refused, in all sessions
	comings    *comings          // of the sessions of clients
	hint       sync.Once         // that X-Forwarded-For is ignored

	mu       sync.Mutex // guards the rest
	sessions map[source]int
}

// newRemoteGate returns a gate that lets perSecond handshakes begin in a second.
func newRemoteGate(log zerolog.Logger, counts *bounds.Counts, perSecond int) *remoteGate {
	return &remoteGate{
		conns: newFairPlaces(maxStrangers, sourceStrangers, reservedStrangers).
			counting(counts, bounds.Strangers, bounds.SourceStrangers),
		handshakes: newFairPlaces(maxHandshakes, sourceHandshakes, reservedHandshakes).
			counting(counts, bounds.Handshakes, bounds.SourceHandshakes),
		bounds:    counts,
		turn:      newPlaces(1),
		turnKnown: newPlaces(1),
		penalties: newPenalties(),
		rate:      newHandshakeRate(perSecond),
		refusals:  sampled(log),
		shortages: limitLog(log, 1, strangerLinesPeriod, nil),
		headers:   limitLog(log, 1, strangerLinesPeriod, nil),
		warnings:  logburst.New(maxStreamWarnings, streamWarningsPeriod),
		comings:   newComings(log),
		sessions:  make(map[source]int),
	}
}

// closeLogs reports what the logs have left out.
func (g *remoteGate) closeLogs() {
	g.refusals.close()
	g.shortages.close()
	g.headers.close()
	g.comings.close()
}

// sampled returns a log for what strangers cause, which has only some of many events.
func sampled(log zerolog.Logger) *limitedLog {
	return limitLog(log, maxStrangerLines, strangerLinesPeriod, nil)
}

// errDisplaced is why a handshake ends for another one.
var errDisplaced = errors.New("others needed the place")

// count adds n to the number of sessions of a source.
func (g *remoteGate) count(from source, n int) {
	if !from.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sessions[from] += n; g.sessions[from] == 0 {
		delete(g.sessions, from)
	}
}

// knows reports whether a source has a session.
func (g *remoteGate) knows(from source) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[from] > 0
}

// takeConn takes a place for a connection without a session.
func (g *remoteGate) takeConn(from source, end func()) *fairPlace {
	return g.conns.take(from, g.knows(from), end)
}

// penalized returns how long clients of a source are refused, 0 if they aren't.
func (g *remoteGate) penalized(from source) time.Duration {
	left, refuse := g.penalties.of(from)
	if !refuse || g.knows(from) {
		return 0
	}
	g.bounds.Refused(bounds.PenaltyLimit)
	return left
}

// penalize notes that a client was not admitted because of err.
func (g *remoteGate) penalize(from source, err error) {
	if g.penalties.add(from, penaltyFor(err)) {
		g.refusals.Info().Stringer("from", from).
			Msg("clients of an address are refused for a while: they failed to be admitted")
	}
}

// takeRate reports whether another handshake may begin now; if not, for how long the client should
// stay away. owned means that it may be for a session that is here.
func (g *remoteGate) takeRate(from source, owned bool) (after time.Duration, ok bool) {
	after, refused, ok := g.rate.take(time.Now(), from, owned || g.knows(from))
	if ok {
		return 0, true
	}
	g.bounds.Refused(refused)
	if refused == bounds.SourceHandshakeRate {
		g.refusals.Warn().Stringer("from", from).
			Msg("clients of an address want to connect more often than one may: they are asked to " +
				"come later; if it is a load balancer, name it with --trusted-proxy")
	} else {
		g.shortages.Warn().Msg("more clients want to connect than the maximum rate of handshakes " +
			"permits: they are asked to come later")
	}
	return after, false
}

// slow makes a client wait whose source has a penalty. It returns when ctx is done at the latest.
func (g *remoteGate) slow(ctx context.Context, from source) {
	left, _ := g.penalties.of(from)
	if left > 0 && !g.knows(from) {
		sleep(ctx, min(left, penaltyDelay))
	}
}

// takeHandshake takes a place for a client that is being admitted. While all are taken, clients get
// one in the order in which they came, and each keeps its place for handshakeHold, long enough for
// most. It returns nil if the client's turn has not come when ctx is done or handshakeWait is over.
// It also returns nil, and how long the client should stay away, if the place would be one that its
// own source has just taken: others don't wait for what a source does to itself.
func (g *remoteGate) takeHandshake(
	ctx context.Context, from source, end func(),
) (place *fairPlace, after time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	g.slow(ctx, from)
	known := g.knows(from)
	turn := g.turn
	if known {
		turn = g.turnKnown
	}
	if !turn.await(ctx) {
		g.countMissedTurn(ctx)
		return nil, 0
	}
	defer turn.leave()
	for {
		left, own := g.handshakes.wait(from, known, handshakeHold)
		switch {
		case left <= 0:
			return g.handshakes.take(from, known, end), 0
		case own:
			g.bounds.Refused(bounds.SourceHandshakes)
			return nil, left
		case !sleep(ctx, min(left, handshakeLook)):
			g.countMissedTurn(ctx)
			return nil, 0
		}
	}
}

// countMissedTurn counts a client whose turn did not come before ctx was done, unless it left.
func (g *remoteGate) countMissedTurn(ctx context.Context) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		g.bounds.Refused(bounds.HandshakeTurn)
	}
}
