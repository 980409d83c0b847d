package socks

import (
	"net/netip"
	"sync/atomic"
	"time"

	"culvert/internal/logburst"

	"github.com/rs/zerolog"
)

// DropReason is why a server dropped a datagram of an association.
type DropReason string

const (
	// DropAddress means that the datagram came from another address than its client's.
	DropAddress DropReason = "address"

	// DropPort means that the client has authenticated, and the datagram came from another port
	// than its request named.
	DropPort DropReason = "port"

	// DropFragment means that the datagram is a fragment of RFC 1928 section 7.
	DropFragment DropReason = "fragment"

	// DropMalformed means that the datagram's header is cut short or has no usable target.
	DropMalformed DropReason = "malformed"

	// DropSend means that Association.Send refused the datagram.
	DropSend DropReason = "send"

	// DropUnasked means that an answer came before the client had sent anything.
	DropUnasked DropReason = "unasked"

	// DropDeliver means that the system did not send an answer to the client.
	DropDeliver DropReason = "deliver"
)

// dropLogPeriod is the least time between two lines of the log about drops for one reason: anybody
// who can reach an association's port can cause any number of them.
const dropLogPeriod = time.Second

// dropCounter counts the drops for one reason.
type dropCounter struct {
	total atomic.Uint64
	log   zerolog.Logger // limited to a line in dropLogPeriod
}

// drops counts dropped datagrams by reason. The map is never changed after newDrops.
type drops map[DropReason]*dropCounter

func newDrops(log *zerolog.Logger) drops {
	d := drops{}
	for _, reason := range []DropReason{
		DropAddress, DropPort, DropFragment, DropMalformed, DropSend, DropUnasked, DropDeliver,
	} {
		limit := logburst.New(1, dropLogPeriod)
		d[reason] = &dropCounter{log: log.Sample(limit)}
	}
	return d
}

// note counts a datagram and logs it, unless another was logged a moment ago. The addresses are
// the client's, without a port, and where the datagram came from.
func (d drops) note(reason DropReason, client netip.Addr, from netip.AddrPort, err error) {
	counter := d[reason]
	total := counter.total.Add(1)
	counter.log.Debug().Err(err).Str("reason", string(reason)).Stringer("client", client).
		Stringer("from", from).Uint64("total", total).Msg("socks: datagram dropped")
}

// Dropped returns how many datagrams the server has dropped for each reason since New, not counting
// those that an Association dropped for lack of room.
func (s *Server) Dropped() map[DropReason]uint64 {
	totals := make(map[DropReason]uint64, len(s.drops))
	for reason, counter := range s.drops {
		totals[reason] = counter.total.Load()
	}
	return totals
}
