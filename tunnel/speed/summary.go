package speed

import (
	"errors"
	"time"
)

// ErrShort is the error of a measurement that has ended before there was anything to measure.
var ErrShort = errors.New("the transfer ended too soon to be measured")

// ends are the snapshots of the end that sends and of the one that receives.
func ends(phase Phase, l look) (sender, receiver Snapshot) {
	if phase == PhaseUpload {
		return l.local, l.remote
	}
	return l.remote, l.local
}

// rateOf returns what has arrived between two looks, in bytes a second.
func rateOf(phase Phase, first, last look) (bytes int64, took time.Duration, rate float64) {
	_, from := ends(phase, first)
	_, to := ends(phase, last)
	bytes, took = to.Received-from.Received, to.At-from.At
	if took <= 0 {
		return 0, 0, 0
	}
	return bytes, took, float64(bytes) / took.Seconds()
}

// summarize evaluates what was seen of a direction. trip is the round trip while idle.
func summarize(
	phase Phase, looks []look, trips []time.Duration, trip time.Duration,
) (Transfer, error) {
	if len(looks) < 2 {
		return Transfer{}, ErrShort
	}
	first, last := looks[0], looks[len(looks)-1]
	t := Transfer{Loaded: newTrips(trips), Segments: -1, Resent: -1}
	t.Bytes, t.Took, t.Rate = rateOf(phase, first, last)
	if t.Bytes == 0 {
		return Transfer{}, ErrShort
	}
	e := newEvidence(phase, looks, t.Rate, trip)
	if e.tcp != nil {
		t.Segments, t.Resent = e.segments, e.lost
	}
	t.Reason = e.reason()
	return t, nil
}
