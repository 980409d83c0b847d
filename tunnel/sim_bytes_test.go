package tunnel

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/tunnel/mux"
)

var simStride = flag.Int("stride", 293,
	"after how many bytes more TestCarrierFailsAtEachByte lets the next carrier fail")

// simRetry bounds how long a local takes from a carrier that fails while it connects to a session:
// what another connection waits for when the first makes no progress, or for an answer to its
// hello, and an attempt.
const simRetry = hedgeDelay + helloTimeout + 5*time.Second

// simFailures are what may happen to a connection.
var simFailures = map[string]func(l *simLink){
	"reset": func(l *simLink) {
		l.resetNowLocked(0)
		l.resetNowLocked(1)
	},
	"reset of the local": func(l *simLink) {
		l.resetNowLocked(0)
		l.silent[1] = true
	},
	"reset of the remote": func(l *simLink) {
		l.resetNowLocked(1)
		l.silent[0] = true
	},
	"silence": func(l *simLink) { l.silent = [2]bool{true, true} },
}

// A carrier fails after each number of bytes in either direction, from the request for the upgrade
// to the session's hello: it is reset, closed by the network at one end, or falls silent. The local
// is up soon after, and the remote gives back all that the failed connection held, in time. The
// same holds for a session that is resumed, which loses nothing.
func TestCarrierFailsAtEachByte(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]func(*simWorld, func(int) *atomic.Bool){
		"first": (*simWorld).failFirst, "resumed": (*simWorld).failResumed,
	} {
		for to, receiver := range []string{"local", "remote"} {
			for what, fail := range simFailures {
				name := fmt.Sprintf("%s, bytes to the %s, %s", name, receiver, what)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { failAtEachByte(t, to, fail, each) })
				})
			}
		}
	}
}

// failAtEachByte calls each with a function that lets the next carrier fail once a number of bytes
// has been sent to an end, and returns whether it has.
func failAtEachByte(
	t *testing.T, to int, fail func(*simLink), each func(*simWorld, func(int) *atomic.Bool),
) {
	w := newSimWorld(t, 1)
	defer w.tell()
	w.carriers.delay, w.carriers.rate = 10*time.Millisecond, 10<<20
	w.roams = true
	w.startRemote()
	each(w, func(bytes int) *atomic.Bool {
		failed := new(atomic.Bool)
		w.carriers.setLimit(&simLimit{end: to, bytes: bytes, fail: func(l *simLink) {
			failed.Store(true)
			fail(l)
		}})
		return failed
	})
	w.await("the users to end", w.users.Wait)
	w.isIdle("all")
	w.await("the remote to end", w.stopRemote)
}

// failFirst lets the first carriers of locals fail, until a limit is not met.
func (w *simWorld) failFirst(limit func(bytes int) *atomic.Bool) {
	for i, more := 0, true; more && !w.t.Failed(); i++ {
		failed := limit(i * *simStride)
		w.startLocal()
		w.awaitSession(simRetry)
		more = failed.Load()
		w.await("the local to end", w.stopLocal)
		if i%20 == 0 {
			w.isIdle(fmt.Sprintf("%d bytes", i**simStride))
		}
	}
}

// failResumed lets the carriers fail on which a session is resumed, until a limit is not met.
func (w *simWorld) failResumed(limit func(bytes int) *atomic.Bool) {
	w.startLocal()
	session := w.awaitSession(simRetry)
	for i, more := 0, true; more && !w.t.Failed(); i++ {
		time.Sleep(2 * steadyAfter) // synctest: else the pauses of the local grow
		x := w.newExchange(w.rand(1), "dial")
		for end := range x.ends {
			x.ends[end] = simEndPlan{size: 8 << 10, pauses: 3, pause: 40 * time.Millisecond,
				done: make(chan struct{})}
		}
		var user sync.WaitGroup
		user.Go(func() { w.runExchange(x, w.viaDial) })
		time.Sleep(70 * time.Millisecond) // synctest: in its middle
		failed := limit(i * *simStride)
		w.carriers.cut(0, 1)
		user.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), simRetry)
		if _, err := session.Ping(ctx); err != nil {
			w.errorf("after %d bytes: %v", i**simStride, err)
		}
		cancel()
		more = failed.Load()
	}
	w.await("the local to end", w.stopLocal)
}

// isIdle checks that within the longest deadline of a stranger nothing is left of the carriers.
func (w *simWorld) isIdle(after string) {
	time.Sleep(w.resumeWindow + mux.DefaultKeepalive + headerTimeout + 10*time.Second) // synctest
	r := w.remote
	r.mu.Lock()
	sessions := len(r.sessions)
	r.mu.Unlock()
	conns, handshakes := r.gate.conns.taken(), r.gate.handshakes.taken()
	if sessions > 0 || conns > 0 || handshakes > 0 {
		w.errorf("after %s there are %d sessions, %d connections and %d handshakes",
			after, sessions, conns, handshakes)
	}
}

// A carrier delivers byte by byte.
func TestCarrierDrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1)
		defer w.tell()
		w.carriers.delay, w.carriers.rate = 10*time.Millisecond, 10<<20
		w.carriers.drips = true
		w.startRemote()
		w.startLocal()
		w.awaitSession(simRetry)
		rng := w.rand(1)
		for range 5 {
			w.runExchange(w.newExchange(rng, "forward"), w.viaForward)
		}
		w.await("the local to end", w.stopLocal)
		w.await("the users to end", w.users.Wait)
		w.isIdle("all")
		w.await("the remote to end", w.stopRemote)
	})
}

// A carrier is so slow that what others take at once takes seconds. It is not taken for silent, in
// either direction, and when it is cut, neither is the next one.
func TestSlowCarrier(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{6_000, 8_000} {
		synctest.Test(t, func(t *testing.T) {
			w := newSimWorld(t, 1)
			defer w.tell()
			w.carriers.delay, w.carriers.rate = 50*time.Millisecond, rate
			w.startRemote()
			w.startLocal()
			session := w.awaitSession(simRetry)
			for i := range 4 {
				x := w.newExchange(w.rand(1), "dial")
				for end := range x.ends {
					x.ends[end] = simEndPlan{size: 100, done: make(chan struct{})}
				}
				x.ends[i%2].size = 100 << 10
				var user sync.WaitGroup
				user.Go(func() { w.runExchange(x, w.viaDial) })
				if i >= 2 {
					time.Sleep(5 * time.Second) // synctest: in its middle
					w.carriers.cut(0, 1)
				}
				user.Wait()
				if err := session.LossCause(); errors.Is(err, mux.ErrPeerSilent) {
					w.errorf("%d bytes a second: exchange %d cost the carrier: %v", rate, i, err)
				}
			}
			w.await("the local to end", w.stopLocal)
			w.await("the users to end", w.users.Wait)
			w.isIdle("all")
			w.await("the remote to end", w.stopRemote)
		})
	}
}
