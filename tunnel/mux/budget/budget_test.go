package budget

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

func ignore() {}

// fill makes the member hold as much as its share lets it, as a session that pauses in time does.
func fill(m *Member) int {
	held := 0
	for m.Pressure(chunk) < Exceeded {
		held += chunk
		m.Hold(held)
	}
	return held
}

// TestShares: a client that is alone may hold five twelfths of the budget. However many there are,
// they leave some of it, and one that comes last gets something.
func TestShares(t *testing.T) {
	b := New(64 * mib)
	held := fill(b.Join("a", ignore))
	if held < 26*mib || held > 27*mib {
		t.Errorf("alone: %d MiB", held/mib)
	}
	for i := range 1000 {
		last := fill(b.Join(strconv.Itoa(i), ignore))
		if i < 3 && last < mib {
			t.Errorf("client %d gets %d KiB", i, last>>10)
		}
	}
	if b.Held() > b.hard() {
		t.Errorf("%d MiB held together", b.Held()/mib)
	}
}

// TestRoomForFixed: a client that takes all of its share, and a quarter of the budget besides, as
// its streams do that ignore it, leaves a share to another.
func TestRoomForFixed(t *testing.T) {
	for _, data := range []string{"first", "last"} {
		b := New(64 * mib)
		sessions, streams := b.Join("a", ignore), b.JoinFixed("a")
		if data == "first" {
			fill(sessions)
		}
		streams.Hold(16 * mib)
		if data == "last" {
			fill(sessions)
		}
		if b.Held() > b.soft() {
			t.Errorf("data %s: %d MiB held", data, b.Held()/mib)
		}
		if got := fill(b.Join("b", ignore)); got < 3*mib {
			t.Errorf("data %s: another client gets %d KiB", data, got>>10)
		}
		if b.Held() > b.soft() {
			t.Errorf("data %s: %d MiB held by both", data, b.Held()/mib)
		}
		streams.Leave()
		if b.fixed.Load() != 0 {
			t.Errorf("%d bytes fixed when no streams are left", b.fixed.Load())
		}
	}
}

// TestLargestYieldsFirst: when another client takes memory, the one that holds most exceeds its
// share, and the other does not.
func TestLargestYieldsFirst(t *testing.T) {
	b := New(64 * mib)
	large, small := b.Join("large", ignore), b.Join("small", ignore)
	fill(large)
	small.Hold(2 * mib)
	if large.Pressure(0) != Exceeded || small.Pressure(0) != Low {
		t.Errorf("large %v, small %v", large.Pressure(0), small.Pressure(0))
	}
	large.Hold(4 * mib)
	if large.Pressure(0) != Low {
		t.Errorf("large %v after it freed memory", large.Pressure(0))
	}
}

// TestClientsShareByName: sessions of one client have one share together.
func TestClientsShareByName(t *testing.T) {
	b := New(64 * mib)
	fill(b.Join("a", ignore))
	if got := fill(b.Join("a", ignore)); got > 0 {
		t.Errorf("a second session got %d bytes", got)
	}
	if got := fill(b.Join("b", ignore)); got < 8*mib {
		t.Errorf("another client got %d bytes", got)
	}
}

// TestExpel: what can't yield ends at seven eighths of the budget: the largest session of the
// client that holds most, and the next one only after that has yielded.
func TestExpel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(64 * mib)
		expelled := make(chan *Member, 9)
		join := func(name string, held int) (m *Member) {
			m = b.Join(name, func() { expelled <- m })
			m.Hold(held)
			return m
		}
		join("single", 24*mib)
		join("many", 12*mib)
		largest := join("many", 13*mib)
		if b.Reserve("strangers", 7*mib) != nil {
			t.Error("memory above the share reserved")
		}
		synctest.Wait()
		if len(expelled) > 0 {
			t.Fatal("expelled too early")
		}
		late := join("late", 8*mib)
		synctest.Wait()
		if m := <-expelled; m != largest || !m.Expelled() || late.Expelled() {
			t.Fatalf("not the largest session of the largest client: %+v", m.client.name)
		}
		late.Hold(20 * mib)
		synctest.Wait()
		if len(expelled) > 0 {
			t.Fatal("expelled another one before the first has yielded")
		}
		largest.Hold(2 * mib)
		largest.Yielded() // but that was not enough
		synctest.Wait()
		if m := <-expelled; m.client.name != "single" {
			t.Errorf("then %q", m.client.name)
		}
	})
}

// TestExpelSeveral: sessions of a client that keep taking memory are expelled one after the other,
// without a pause for what its streams hold, which is not enough.
func TestExpelSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(64 * mib)
		began := time.Now()
		var expelled []time.Duration
		fixed := b.JoinFixed("hog")
		fixed.Hold(chunk)
		for range 3 {
			var m *Member
			m = b.Join("hog", func() {
				if m.Expelled() {
					expelled = append(expelled, time.Since(began))
					m.Hold(0)
					m.Yielded()
				}
			})
			defer m.Leave()
			m.Hold(70 * mib)
			synctest.Wait()
		}
		fixed.Leave()
		if len(expelled) != 3 || expelled[2] >= yieldTime {
			t.Errorf("expelled after %v, want all three at once", expelled)
		}
	})
}

// TestExpelFixed: a client that holds most by what can't be freed on demand, such as its streams,
// loses a session all the same, not those who hold less.
func TestExpelFixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(64 * mib)
		expelled := make(chan *Member, 9)
		join := func(name string) (m *Member) {
			m = b.Join(name, func() { expelled <- m })
			return m
		}
		fixed := b.JoinFixed("hog")
		fixed.Hold(46 * mib)
		hog, user := join("hog"), join("user")
		hog.Hold(chunk)
		user.Hold(4 * mib)
		time.Sleep(patience * 3 / 2) // synctest
		select {
		case m := <-expelled:
			if m != hog {
				t.Fatalf("%q is expelled", m.client.name)
			}
		default:
			t.Fatal("nobody is expelled")
		}
		user.Hold(17 * mib) // too much at once
		hog.Hold(0)
		hog.Yielded()
		user.Hold(18 * mib)
		synctest.Wait()
		if len(expelled) > 0 {
			t.Fatal("another one is expelled before the streams of the first have ended")
		}
		hog.Leave()
		fixed.Hold(0)
		time.Sleep(2 * patience) // synctest
		if len(expelled) > 0 {
			t.Errorf("%q is expelled, too", (<-expelled).client.name)
		}
		user.Leave()
		fixed.Leave()
	})
}

// TestExcessEnds: more than all shares may be held for a moment only, since others get no more
// then.
func TestExcessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(64 * mib)
		expelled := make(chan string, 9)
		join := func(name string) *Member {
			return b.Join(name, func() { expelled <- name })
		}
		large, small := join("large"), join("small")
		defer large.Leave()
		defer small.Leave()
		small.Hold(20 * mib)
		for range 5 {
			large.Hold(30 * mib)
			time.Sleep(patience - time.Millisecond) // synctest
			large.Hold(20 * mib)
			time.Sleep(time.Millisecond) // synctest
		}
		if len(expelled) > 0 {
			t.Fatal("expelled too early")
		}
		large.Hold(30 * mib)
		began := time.Now()
		if name := <-expelled; name != "large" || time.Since(began) != patience {
			t.Errorf("%s expelled after %v", name, time.Since(began))
		}
		large.Hold(29 * mib)
		large.Yielded()
		if name := <-expelled; name != "small" || time.Since(began) != 2*patience {
			t.Errorf("%s expelled after %v", name, time.Since(began))
		}
	})
}

// TestAwait: whoever waits hears of memory that was freed, also if that happened just before.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(64 * mib)
		calls := make(chan struct{}, 9)
		large, waits := b.Join("a", ignore), b.Join("b", func() { calls <- struct{}{} })
		fill(large)
		held := fill(waits)
		waits.Hold(held + chunk)
		seen := waits.Pressure(0)
		if seen != Exceeded {
			t.Fatal(seen)
		}
		waits.Await(seen)
		synctest.Wait()
		if len(calls) > 0 {
			t.Fatal("called though nothing was freed")
		}
		large.Hold(0)
		<-calls
		waits.Await(seen) // of before
		<-calls
		waits.Recheck()
		waits.Leave()
		large.Leave()
		if b.waiters.Load() != 0 || len(b.waiting) != 0 {
			t.Error("a member that has left still waits")
		}
	})
}

// FuzzBudget runs any sequence of operations and compares all counters with sums over the members.
func FuzzBudget(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 200, 2, 9, 3, 1, 4, 2, 0, 5})
	f.Add([]byte{2, 255, 2, 255, 3, 3, 3, 6, 7, 2, 4})
	f.Fuzz(func(t *testing.T, ops []byte) {
		b := New(8 * mib)
		m := model{held: map[*Member]int{}}
		for len(ops) >= 2 {
			m.step(b, ops[0], ops[1])
			ops = ops[2:]
			m.check(t, b)
		}
		m.leaveAll()
		m.check(t, b)
		if b.Held() != 0 || len(b.clients) != 0 || b.waiters.Load() != 0 ||
			b.expelled != nil || b.excess != nil {
			t.Errorf("left over: %d bytes, %d clients, %d waiters, %v, %v",
				b.Held(), len(b.clients), b.waiters.Load(), b.expelled, b.excess)
		}
	})
}

// model is what the members of a budget hold.
type model struct {
	members  []*Member
	held     map[*Member]int
	releases []func()
	reserved int
}

func (m *model) step(b *Budget, op, arg byte) {
	name := strconv.Itoa(int(arg % 5))
	var member *Member
	if len(m.members) > 0 {
		member = m.members[int(arg)%len(m.members)]
	}
	switch {
	case op%7 == 0 && op >= 128:
		m.members = append(m.members, b.JoinFixed(name))
	case op%7 == 0 || member == nil:
		member = b.Join(name, ignore)
		m.members = append(m.members, member)
	case op%7 == 1:
		m.held[member] = int(op) << 12
		member.Hold(m.held[member])
	case op%7 == 2:
		m.held[member] = 0
		member.Hold(0)
	case op%7 == 3:
		member.Leave()
		i := int(arg) % len(m.members)
		m.members = append(m.members[:i], m.members[i+1:]...)
		delete(m.held, member)
	case op%7 == 4 && !member.fixed:
		member.Await(member.Pressure(0))
	case op%7 == 5:
		if release := b.Reserve(name, chunk); release != nil {
			m.releases = append(m.releases, release, release) // a second call does nothing
			m.reserved += chunk
		}
	case member.Expelled():
		member.Yielded()
	}
}

func (m *model) leaveAll() {
	for _, member := range m.members {
		member.Leave()
	}
	for _, release := range m.releases {
		release()
	}
	*m = model{held: map[*Member]int{}}
}

func (m *model) check(t *testing.T, b *Budget) {
	t.Helper()
	sum, holders, fixed := int64(m.reserved), 0, int64(0)
	for _, member := range m.members {
		taken, held := member.held.Load(), int64(m.held[member])
		if taken < held || taken > held+2*chunk || (held == 0 && taken != 0) {
			t.Fatalf("%d bytes taken for %d", taken, held)
		}
		sum += taken
		if member.fixed {
			fixed += taken
		}
	}
	if b.fixed.Load() != fixed {
		t.Fatalf("%d bytes are fixed, members %d", b.fixed.Load(), fixed)
	}
	all := int64(0)
	for _, c := range b.clients {
		of := int64(0)
		for member := range c.members {
			of += member.held.Load()
		}
		if got := c.held.Load(); got != of || got < 0 {
			t.Fatalf("client %s: %d held, members %d", c.name, got, of)
		}
		if of > 0 {
			holders++
		}
		all += of
	}
	if b.Held() != sum || all != sum || b.holders.Load() != int64(holders) {
		t.Fatalf("%d held by %d, want %d by %d; clients %d",
			b.Held(), b.holders.Load(), sum, holders, all)
	}
}

// TestConcurrent: whatever happens at once, all is given back in the end.
func TestConcurrent(t *testing.T) {
	b := New(4 * mib)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 50 {
				m := b.Join(strconv.Itoa(random.IntN(3)), ignore)
				for range 20 {
					m.Hold(random.IntN(mib))
					if m.Pressure(0) == Exceeded {
						m.Await(Exceeded)
					}
					if m.Expelled() {
						m.Hold(0)
						m.Yielded()
					}
				}
				m.Leave()
			}
		})
	}
	all.Wait()
	if b.Held() != 0 || b.holders.Load() != 0 || b.waiters.Load() != 0 || len(b.clients) != 0 {
		t.Errorf("left over: %d bytes, %d holders, %d waiters, %d clients",
			b.Held(), b.holders.Load(), b.waiters.Load(), len(b.clients))
	}
}
