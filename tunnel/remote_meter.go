package tunnel

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"golang.org/x/time/rate"
)

// clientMeter bounds the rate of all that the streams of a client carry, and what they carry in a
// day. Its methods may be called concurrently. A nil one bounds nothing.
type clientMeter struct {
	up, down atomic.Pointer[meterRate] // from the client to targets, and back; nil for no bound
	quota    clientQuota
}

// meterRate bounds the rate of one direction.
type meterRate struct {
	all       *rate.Limiter // of data and datagrams
	datagrams *rate.Limiter // at most as many; what they take, data has to wait for
}

// newClientMeter returns the meter of the client that the remote's ledger has by a name.
func newClientMeter(r *Remote, name string, share policy.Share) *clientMeter {
	m := &clientMeter{
		quota: clientQuota{
			ctx: r.ctx, ledger: r.cfg.Ledger, name: name, log: r.cfg.Log, bounds: r.cfg.Bounds,
		},
	}
	m.set(share)
	return m
}

// set replaces the rates. What was reserved under another one is forgotten: at a lower one it would
// be too much to wait for.
func (m *clientMeter) set(share policy.Share) {
	replace := func(p *atomic.Pointer[meterRate], most int64) {
		if r := p.Load(); most == 0 || r == nil || r.all.Limit() != rate.Limit(most) {
			p.Store(newMeterRate(most))
		}
	}
	replace(&m.up, share.Up)
	replace(&m.down, share.Down)
	m.quota.set(share.Quota)
}

// newMeterRate returns a rate in bytes a second; 0 is none.
func newMeterRate(most int64) *meterRate {
	if most == 0 {
		return nil
	}
	limiter := func(part, least int64) *rate.Limiter {
		return rate.NewLimiter(rate.Limit(most), int(min(max(most/part, least), math.MaxInt32)))
	}
	return &meterRate{limiter(burstPart, minBurst), limiter(datagramBurstPart, mux.MaxDatagram)}
}

// lifetime returns the context of a new stream of the client, all without a meter.
func (m *clientMeter) lifetime(all context.Context) context.Context {
	if m == nil {
		return all
	}
	return m.quota.lifetime()
}

// rate returns what bounds a direction, nil when nothing does.
func (m *clientMeter) rate(d mux.Direction) *meterRate {
	switch {
	case m == nil:
		return nil
	case d == mux.ToPeer:
		return m.down.Load()
	}
	return m.up.Load()
}

// bounds returns the rates in bytes a second, 0 for none.
func (m *clientMeter) bounds() (up, down int64) {
	limit := func(r *meterRate) int64 {
		if r == nil {
			return 0
		}
		return int64(r.all.Limit())
	}
	return limit(m.up.Load()), limit(m.down.Load())
}

// Piece implements mux.Meter: streams take turns, each with as much as a burst.
func (m *clientMeter) Piece(d mux.Direction) int {
	if r := m.rate(d); r != nil {
		return r.all.Burst()
	}
	return 0
}

// Reserve implements mux.Meter. What is reserved first is carried first.
func (m *clientMeter) Reserve(d mux.Direction, n int) time.Duration {
	if m == nil {
		return 0
	}
	m.quota.count(n)
	return m.reserve(d, n)
}

func (m *clientMeter) reserve(d mux.Direction, n int) (wait time.Duration) {
	r := m.rate(d)
	if r == nil {
		return 0
	}
	now := time.Now()
	for n > 0 {
		part := min(n, r.all.Burst())
		wait = r.all.ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return wait
}

// admits reports whether a datagram of n bytes may be carried, which Reserve then counts. Datagrams
// don't wait: too many of them are dropped.
func (m *clientMeter) admits(d mux.Direction, n int) bool {
	r := m.rate(d)
	return r == nil || r.datagrams.AllowN(time.Now(), n)
}

// passes is admits for a datagram that is carried at once.
func (m *clientMeter) passes(d mux.Direction, n int) bool {
	if !m.admits(d, n) {
		return false
	}
	m.Reserve(d, n)
	return true
}
