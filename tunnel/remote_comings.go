package tunnel

import (
	"net/netip"
	"sync"
	"time"

	"culvert/certs"
	"culvert/internal/logburst"

	"github.com/rs/zerolog"
)

// comings bounds what the log and the observers are told of how the sessions of each client come
// and go: a client may begin, resume and end them all the time. All methods may be called
// concurrently.
type comings struct {
	log zerolog.Logger

	mu      sync.Mutex // guards the rest
	since   time.Time  // when the period began
	clients map[clientID]*comingsOf
	left    int // lines that were left out in the period
}

// comingsOf is what one client may still cause. It is also the zerolog.Sampler of the lines.
type comingsOf struct {
	all           *comings
	lines, events *logburst.Sampler
	asked         *logburst.Sampler // lines about listeners and speed tests, in all sessions
}

func newComings(log zerolog.Logger) *comings {
	return &comings{log: log, clients: make(map[clientID]*comingsOf)}
}

// of returns what a client may cause. Those that come when there are too many share one.
func (c *comings) of(id clientID) *comingsOf {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.since) >= comingsPeriod {
		c.reportLocked()
		c.since = now
		clear(c.clients)
	}
	if c.clients[id] == nil && len(c.clients) >= maxComingClients {
		id = clientID{}
	}
	if c.clients[id] == nil {
		c.clients[id] = &comingsOf{
			all:    c,
			lines:  logburst.New(maxComingLines, comingsPeriod),
			events: logburst.New(maxComingEvents, comingsPeriod),
			asked:  logburst.New(2*maxListenerLines, comingsPeriod),
		}
	}
	return c.clients[id]
}

// Sample implements zerolog.Sampler.
func (o *comingsOf) Sample(level zerolog.Level) bool {
	if o.lines.Sample(level) {
		return true
	}
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	o.all.left++
	return false
}

// event reports whether observers are told of an event.
func (o *comingsOf) event() bool { return o.events.Sample(zerolog.InfoLevel) }

// close reports what the log has left out.
func (c *comings) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reportLocked()
}

func (c *comings) reportLocked() {
	if c.left > 0 {
		c.log.Info().Int("omitted", c.left).Msg("clients come and go often: lines were left out")
	}
	c.left = 0
}

// comingsOf returns what the client that has a key and comes from an address may cause.
func (r *Remote) comingsOf(key certs.PublicKey, from netip.Addr) *comingsOf {
	return r.gate.comings.of(r.currentAccess().clientID(key, from))
}
