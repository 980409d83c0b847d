package mux

import (
	"errors"
	"io"
	"time"

	"culvert/internal/bounds"
)

// Category is what a stream carries, for counting.
type Category int

// The categories. Streams that a server opens are those of its reverse listeners, whatever they
// carry; a stream that makes it listen, or leads to the server itself, is in no category.
const (
	CategoryTCP Category = iota
	CategoryUDP
	CategoryUnix
	CategoryReverse
	numCategories
	noCategory Category = -1
)

// String returns the category's name.
func (c Category) String() string { return [...]string{"tcp", "udp", "unix", "reverse"}[c] }

// Result is how a stream ended.
type Result int

// The results.
const (
	ResultOK          Result = iota // both directions ended with an end of file
	ResultRefused                   // by the target, or by a bound of the receiver
	ResultDenied                    // by the remote's rules
	ResultUnreachable               // no way to the target, or no such name
	ResultTimeout                   // the target didn't answer in time
	ResultReset                     // cut short by an end, or given up before there was an answer
	numResults
)

// String returns the result's name.
func (r Result) String() string {
	return [...]string{"ok", "refused", "denied", "unreachable", "timeout", "reset"}[r]
}

// ResultOf returns the result of a stream that was refused with a code.
func ResultOf(c Code) Result {
	switch c {
	case CodeHostUnreach, CodeNetUnreach, CodeNameNotFound, CodeDialFailed, CodeLookupFailed:
		return ResultUnreachable
	case CodeTimeout:
		return ResultTimeout
	case CodeNotAllowed:
		return ResultDenied
	case CodeCancelled, CodeClosed, CodeAborted, CodeStalled:
		return ResultReset
	}
	return ResultRefused
}

// Loss is why a session lost a carrier. A carrier that the client replaces is not lost.
type Loss int

// The losses.
const (
	LossClosed Loss = iota // the peer, or somebody on the way, closed the connection
	LossSilent             // the peer gave no sign of life
	LossError              // the connection failed
	numLosses
)

// String returns the loss's name.
func (l Loss) String() string { return [...]string{"closed", "silent", "error"}[l] }

// lossOf classifies the error that ended a carrier.
func lossOf(err error) Loss {
	switch {
	case errors.Is(err, ErrPeerSilent):
		return LossSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return LossClosed
	}
	return LossError
}

// Drop is why a datagram was dropped.
type Drop int

// The reasons.
const (
	DropSize   Drop = iota // larger than MaxDatagram
	DropAway               // the session had no carrier, or lost it meanwhile
	DropMemory             // the session or its client held too much memory
	DropFull               // the flow's queue was full
	DropLate               // it had waited for too long
	DropClosed             // its flow had ended
	numDrops
	noDrop Drop = -1
)

// String returns the reason's name.
func (d Drop) String() string {
	return [...]string{"size", "away", "memory", "full", "late", "closed"}[d]
}

// Traffic counts bytes by direction.
type Traffic struct{ Sent, Received uint64 }

// Totals counts what a session has done on all its carriers. Only Open goes down again: it is all
// zero once the session and its streams have ended.
type Totals struct {
	Payload Traffic // of streams and flows, in bytes
	Resent  Traffic // after resumptions, in bytes
	Open    [numCategories]int
	Ended   [numCategories][numResults]uint64
	Lost    [numLosses]uint64
	Dropped [numDrops]uint64
}

// sessionTotals is all that a session counts.
type sessionTotals struct {
	Totals
	datagrams DatagramStats // without Dropped, which Totals has by reason
}

// Add adds what another session has counted.
func (t *Totals) Add(u *Totals) {
	t.Payload.add(u.Payload)
	t.Resent.add(u.Resent)
	for c := range t.Open {
		t.Open[c] += u.Open[c]
		for r := range t.Ended[c] {
			t.Ended[c][r] += u.Ended[c][r]
		}
	}
	for l := range t.Lost {
		t.Lost[l] += u.Lost[l]
	}
	for d := range t.Dropped {
		t.Dropped[d] += u.Dropped[d]
	}
}

func (t *Traffic) add(u Traffic) {
	t.Sent += u.Sent
	t.Received += u.Received
}

// category returns the category of a stream.
func (st *stream) category() Category {
	if c := st.target.category(); c == noCategory {
		return c
	}
	if st.ours != st.session.client {
		return CategoryReverse
	}
	return st.target.category()
}

// category returns the category of a stream that the client opens for a target.
func (t Target) category() Category {
	switch t.Kind {
	case StreamUDP:
		return CategoryUDP
	case StreamUnix:
		return CategoryUnix
	case StreamReverse:
		return CategoryReverse
	case StreamListen, StreamService:
		return noCategory
	}
	return CategoryTCP
}

// countOpenLocked counts a stream that was put into the table.
func (st *stream) countOpenLocked() {
	if c := st.category(); c != noCategory {
		st.session.totals.Open[c]++
	}
}

// reportEndLocked counts a stream that was taken out of the table, and reports its end.
func (st *stream) reportEndLocked() {
	c := st.category()
	if c == noCategory {
		return
	}
	t, result := &st.session.totals, st.resultLocked()
	t.Open[c]--
	t.Ended[c][result]++
	st.notifyEndLocked(result)
}

// resultLocked returns how a stream that has ended did so.
func (st *stream) resultLocked() Result {
	var refused *OpenError
	var reset *ResetError
	switch {
	case st.state == openRefused && errors.As(st.openResult, &refused):
		return ResultOf(refused.Code)
	case st.state == openRefused && errors.As(st.send.err, &reset):
		return ResultOf(reset.Code)
	case st.ended:
		return ResultReset
	}
	return ResultOK
}

// reportRefusedLocked counts a stream that was refused before it was in the table, and reports
// that. Reverse streams are those of the server: ours reports whether this side would have opened
// it, and the id is 0 then.
func (s *Session) reportRefusedLocked(id uint32, target Target, ours bool, code Code) {
	c := target.category()
	if c == noCategory {
		return
	}
	if ours != s.client {
		c = CategoryReverse
	}
	s.totals.Ended[c][ResultOf(code)]++
	s.notifyRefusedLocked(id, target, ours, code)
}

// dropBounds are the bounds that make a session drop datagrams.
var dropBounds = map[Drop]bounds.Bound{
	DropSize:   bounds.Datagram,
	DropMemory: bounds.Memory,
	DropFull:   bounds.DatagramQueue,
	DropLate:   bounds.DatagramWait,
}

// countDropLocked counts a datagram that was dropped.
func (s *Session) countDropLocked(why Drop) {
	s.totals.Dropped[why]++
	if b, ok := dropBounds[why]; ok {
		s.cfg.Bounds.Refused(b)
	}
}

// countLossLocked counts a carrier that was lost because of err.
func (s *Session) countLossLocked(err error) {
	if err != errReplaced {
		s.totals.Lost[lossOf(err)]++
	}
}

// countResumptionLocked counts what the peer sends again, from its position, on another carrier. A
// peer may claim any position: it is taken to retain no more than this side.
func (s *Session) countResumptionLocked(theirs hello) {
	if theirs.sendPosition > s.received {
		s.totals.Resent.Received += min(theirs.sendPosition-s.received, uint64(s.cfg.MaxRetained))
	}
	if !s.lost.since.IsZero() {
		s.lost.lasted = time.Since(s.lost.since)
	}
}
