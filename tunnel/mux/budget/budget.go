// Package budget divides memory among the clients of a process.
//
// A [Budget] counts what all clients hold, a [Member] what one session of a client holds. The share
// of a client is not fixed: it is twice what nobody holds of the first five eighths of the budget
// (the dynamic threshold of Choudhury and Hahne, 1998, for queues that share a buffer). A client
// that is alone may hold five twelfths of the budget, two may hold a quarter each, and n together
// never more than five eighths, so that there is always room for another. Whoever holds most
// exceeds its share first, and has to yield.
//
// The next eighth is for what clients hold whatever their shares are, such as the memory of streams
// apart from their data ([Budget.JoinFixed]). What that exceeds the eighth by leaves less for
// shares.
//
// The last quarter is for what clients hold that can't yield: bytes that a peer was allowed to
// send before. When that is in use for patience, or half of it at any time, the member that holds
// most, of the client that holds most, is expelled: otherwise a client could leave no share to the
// others.
package budget

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// chunk is the unit in which members take memory, in bytes, so that they seldom touch the
	// counters that they share.
	chunk = 64 << 10

	// wakePause is how long members wait at least after memory was freed until they look whether
	// they may go on: many of them must not be woken by each freed chunk.
	wakePause = 5 * time.Millisecond

	// patience is how long clients together may hold more than their shares: what they may receive
	// drains in that time if it does at all.
	patience = 2 * time.Second

	// yieldTime is for how long the memory that an expelled member's client holds whatever its share
	// is, which it frees as its streams end, costs no other client its session.
	yieldTime = time.Second

	// shareFactor times what is free is the share of a client.
	shareFactor = 2

	// fixedPart is the part of a budget that no share takes, since it is for fixed members: a client
	// whose data can't yield, as its peer reads none, would otherwise come to all shares with its
	// streams.
	fixedPart = 8

	// leastPart is the part of a budget that its clients may divide among themselves when there is
	// nothing else left for shares. It is small, since some take theirs when they are few.
	leastPart = 64
)

// Budget is memory that clients share, in bytes. All methods may be called concurrently. A nil
// *Budget is unlimited.
type Budget struct {
	limit    int64
	held     atomic.Int64
	fixed    atomic.Int64 // of it, by fixed members
	reserved atomic.Int64 // of it, by Reserve
	holders  atomic.Int64 // clients that hold something
	waiters  atomic.Int64 // members in waiting

	mu       sync.Mutex // guards all below and the members' lists; no other lock is taken under it
	clients  map[string]*client
	waiting  map[*Member]struct{}
	waking   bool        // wake is about to be called
	excess   *time.Timer // set while more than all shares is held
	expelled *Member     // that has not freed its memory yet
}

// client is what the members of one client hold together.
type client struct {
	name    string
	held    atomic.Int64
	members map[*Member]struct{}
}

// New makes a budget of limit bytes.
func New(limit int64) *Budget {
	return &Budget{
		limit:   limit,
		clients: make(map[string]*client),
		waiting: make(map[*Member]struct{}),
	}
}

// Limit returns the size of the budget in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Held returns how many bytes are held.
func (b *Budget) Held() int64 { return b.held.Load() }

// Fixed returns how many of these bytes fixed members hold.
func (b *Budget) Fixed() int64 { return b.fixed.Load() }

// Reserved returns how many of these bytes Reserve has given out.
func (b *Budget) Reserved() int64 { return b.reserved.Load() }

// HeldBy returns how many bytes a client holds.
func (b *Budget) HeldBy(name string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.clients[name]; c != nil {
		return c.held.Load()
	}
	return 0
}

// soft is what all clients together may hold, by their shares and with fixed members, without end.
func (b *Budget) soft() int64 { return b.limit / 4 * 3 }

// Shares returns what all clients together may hold by their shares and with fixed members: all but
// the last quarter of the budget, in bytes.
func (b *Budget) Shares() int64 { return b.soft() }

// hard is how much must be held that a member is expelled at once.
func (b *Budget) hard() int64 { return b.limit / 8 * 7 }

// share returns what a client may hold now. However much others hold, it is not nothing.
func (b *Budget) share() int64 {
	setAside := max(0, b.limit/fixedPart-b.fixed.Load())
	share := shareFactor * (b.soft() - b.held.Load() - setAside)
	if share >= b.limit/leastPart {
		return share
	}
	return max(share, b.limit/leastPart/max(1, b.holders.Load()))
}

// Member is the part of a budget that one session holds. Hold and Leave must not be called
// concurrently; all else may be. A nil *Member holds nothing and is unlimited.
type Member struct {
	budget *Budget
	client *client
	notify func()
	fixed  bool
	held   atomic.Int64
	out    atomic.Bool
	yields bool // others are spared until its client has freed more; the budget's mutex guards it
}

// Join adds a member for a client. notify is called, without any lock of the budget, after Await
// when more may be held, and when the member is expelled. It may be called once more after Leave.
func (b *Budget) Join(name string, notify func()) *Member {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.clients[name]
	if c == nil {
		c = &client{name: name, members: make(map[*Member]struct{})}
		b.clients[name] = c
	}
	m := &Member{budget: b, client: c, notify: notify}
	c.members[m] = struct{}{}
	return m
}

// JoinFixed adds a member for what a client holds whatever its share is, which the caller bounds.
// It counts in the share, is never expelled, and must not wait.
func (b *Budget) JoinFixed(name string) *Member {
	m := b.Join(name, nil)
	if m != nil {
		m.fixed = true
	}
	return m
}

// Leave removes the member, with all that it holds.
func (m *Member) Leave() {
	if m == nil {
		return
	}
	b := m.budget
	m.change(-m.held.Load())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetWaiterLocked(m)
	delete(m.client.members, m)
	if len(m.client.members) == 0 && b.clients[m.client.name] == m.client {
		delete(b.clients, m.client.name)
	}
	b.freedLocked(m)
}

// Hold notes that the member holds n bytes. It never fails: whoever calls it has the memory
// already, and has asked Exceeded before.
func (m *Member) Hold(n int) {
	if m == nil {
		return
	}
	want := (int64(n) + chunk - 1) / chunk * chunk
	held := m.held.Load()
	if want == held || (want == held-chunk && want > 0) {
		return
	}
	m.change(want - held)
}

// change adds n bytes to what the member holds.
func (m *Member) change(n int64) {
	if n == 0 {
		return
	}
	b := m.budget
	m.held.Add(n)
	if m.fixed {
		b.fixed.Add(n)
	}
	ofClient := m.client.held.Add(n)
	switch {
	case ofClient == n:
		b.holders.Add(1)
	case ofClient == 0:
		b.holders.Add(-1)
	}
	all := b.held.Add(n)
	if (all > b.soft()) != (all-n > b.soft()) {
		b.watchExcess()
	}
	if n > 0 && all > b.hard() {
		b.expel()
	}
	if n < 0 && b.waiters.Load() > 0 {
		b.mu.Lock()
		b.scheduleWakeLocked()
		b.mu.Unlock()
	}
}

// watchExcess starts, or stops, the time for which more than all shares may be held.
func (b *Budget) watchExcess() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch excess := b.held.Load() > b.soft(); {
	case !excess && b.excess != nil:
		b.excess.Stop()
		b.excess = nil
	case excess && b.excess == nil:
		var timer *time.Timer
		timer = time.AfterFunc(patience, func() {
			b.mu.Lock()
			current := b.excess == timer
			if current {
				b.excess = nil
			}
			b.mu.Unlock()
			if current {
				b.endExcess()
			}
		})
		b.excess = timer
	}
}

// endExcess expels a member when the time is over.
func (b *Budget) endExcess() {
	if b.held.Load() > b.soft() {
		b.expel()
		b.watchExcess()
	}
}

// Pressure is how much of its share a client holds.
type Pressure int

const (
	Low      Pressure = iota // at most half
	High                     // at most all
	Exceeded                 // more
)

// Pressure returns how much of its share the member's client holds, with extra bytes that are about
// to be held.
func (m *Member) Pressure(extra int64) Pressure {
	if m == nil {
		return Low
	}
	held, share := m.client.held.Load()+extra, m.budget.share()
	switch {
	case held <= share/2:
		return Low
	case held <= share:
		return High
	}
	return Exceeded
}

// Await asks for a call of notify once memory has been freed since the pressure was as seen.
func (m *Member) Await(seen Pressure) {
	b := m.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addWaiterLocked(m)
	if m.Pressure(0) < seen {
		b.scheduleWakeLocked()
	}
}

// Recheck asks for a call of notify soon.
func (m *Member) Recheck() {
	b := m.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addWaiterLocked(m)
	b.scheduleWakeLocked()
}

func (b *Budget) addWaiterLocked(m *Member) {
	if _, waits := b.waiting[m]; !waits {
		b.waiting[m] = struct{}{}
		b.waiters.Add(1)
	}
}

func (b *Budget) forgetWaiterLocked(m *Member) {
	if _, waits := b.waiting[m]; waits {
		delete(b.waiting, m)
		b.waiters.Add(-1)
	}
}

func (b *Budget) scheduleWakeLocked() {
	if !b.waking {
		b.waking = true
		time.AfterFunc(wakePause, b.wake)
	}
}

// wake notifies all that wait. Those that still can't go on wait again.
func (b *Budget) wake() {
	b.mu.Lock()
	b.waking = false
	waiting := make([]*Member, 0, len(b.waiting))
	for m := range b.waiting {
		waiting = append(waiting, m)
	}
	for _, m := range waiting {
		b.forgetWaiterLocked(m)
	}
	b.mu.Unlock()
	for _, m := range waiting {
		m.notify()
	}
}

// Expelled reports whether the member has to free all that it holds at once, and then to call
// Yielded.
func (m *Member) Expelled() bool { return m != nil && m.out.Load() }

// Yielded notes that an expelled member has freed what it could. What its client holds beyond its
// share is freed a little later, and no other member is expelled until then, if that is enough.
func (m *Member) Yielded() {
	b := m.budget
	b.mu.Lock()
	m.yields = m.client.fixedHeldLocked() > 0
	yields := m.yields
	b.freedLocked(m)
	b.mu.Unlock()
	if yields {
		time.AfterFunc(yieldTime, m.yielded)
		return
	}
	b.expelAgain()
}

// yielded ends the time for which others were spared.
func (m *Member) yielded() {
	b := m.budget
	b.mu.Lock()
	m.yields = false
	b.freedLocked(m)
	b.mu.Unlock()
	b.expelAgain()
}

// expelAgain expels another member if one was not enough.
func (b *Budget) expelAgain() {
	if b.held.Load() > b.hard() {
		b.expel()
	}
}

func (b *Budget) freedLocked(m *Member) {
	if b.expelled == m && !m.yields {
		b.expelled = nil
	}
}

// fixedHeldLocked returns how many bytes the client holds that are not a session's data.
func (c *client) fixedHeldLocked() (bytes int64) {
	for m := range c.members {
		if m.notify == nil {
			bytes += m.held.Load()
		}
	}
	return bytes
}

// awaitsLocked reports whether no other member need be expelled for now: one was chosen that has
// yet to free its memory, or what its client still frees is enough.
func (b *Budget) awaitsLocked() bool {
	m := b.expelled
	return m != nil && (!m.yields || b.held.Load()-m.client.fixedHeldLocked() <= b.hard())
}

// expel chooses the member that has to free its memory, unless it is to be waited for another's.
func (b *Budget) expel() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.awaitsLocked() {
		return
	}
	b.expelled = nil
	var most *client
	var chosen *Member
	for _, c := range b.clients {
		if held := c.held.Load(); held == 0 || most != nil && held <= most.held.Load() {
			continue
		}
		if m := c.largest(); m != nil {
			most, chosen = c, m
		}
	}
	if chosen == nil {
		return
	}
	b.expelled = chosen
	chosen.out.Store(true)
	time.AfterFunc(0, chosen.notify)
}

// largest returns the member that holds most, of those that can free what they hold and were not
// expelled already; nil if there is none. One that holds nothing may be what the client's fixed
// members hold memory for.
func (c *client) largest() *Member {
	var most *Member
	for m := range c.members {
		if held := m.held.Load(); m.notify == nil || m.out.Load() ||
			(most != nil && held <= most.held.Load()) {
			continue
		}
		most = m
	}
	return most
}

// Reserve takes n bytes for a client unless that exceeds its share. What it returns gives them
// back; it is nil when they were not taken.
func (b *Budget) Reserve(name string, n int) (release func()) {
	m := b.Join(name, nil)
	if m.Pressure(int64(n)) == Exceeded {
		m.Leave()
		return nil
	}
	m.Hold(n)
	if m == nil {
		return func() {}
	}
	held := m.held.Load()
	b.reserved.Add(held)
	return sync.OnceFunc(func() {
		b.reserved.Add(-held)
		m.Leave()
	})
}
