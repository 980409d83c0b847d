package socks

import (
	"net/netip"
	"sync/atomic"
	"time"

	"culvert/internal/logburst"

	"github.com/rs/zerolog"
)

// dropReason is why a server dropped a datagram of an association.
type dropReason string

const (
	// dropAddress means that the datagram came from another address than its client's.
	dropAddress dropReason = "address"

	// dropPort means that the client has authenticated, and the datagram came from another port
	// than its request named.
	dropPort dropReason = "port"

	// dropFragment means that the datagram is a fragment of RFC 1928 section 7.
	dropFragment dropReason = "fragment"

	// dropMalformed means that the datagram's header is cut short or has no usable target.
	dropMalformed dropReason = "malformed"

	// dropSend means that Association.Send refused the datagram.
	dropSend dropReason = "send"

	// dropUnasked means that an answer came before the client had sent anything.
	dropUnasked dropReason = "unasked"

	// dropDeliver means that the system did not send an answer to the client.
	dropDeliver dropReason = "deliver"
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
type drops map[dropReason]*dropCounter

func newDrops(log *zerolog.Logger) drops {
	d := drops{}
	for _, reason := range []dropReason{
		dropAddress, dropPort, dropFragment, dropMalformed, dropSend, dropUnasked, dropDeliver,
	} {
		limit := logburst.New(1, dropLogPeriod)
		d[reason] = &dropCounter{log: log.Sample(limit)}
	}
	return d
}

// note counts a datagram and logs it, unless another was logged a moment ago. The addresses are
// the client's, without a port, and where the datagram came from.
func (d drops) note(reason dropReason, client netip.Addr, from netip.AddrPort, err error) {
	counter := d[reason]
	total := counter.total.Add(1)
	counter.log.Debug().Err(err).Str("reason", string(reason)).Stringer("client", client).
		Stringer("from", from).Uint64("total", total).Msg("socks: datagram dropped")
}
