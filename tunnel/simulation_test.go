package tunnel

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

var (
	simSeeds = flag.Int("seeds", usualSeeds(), "number of seeds of TestSimulation")
	simFirst = flag.Uint64("first-seed", 1, "first seed of TestSimulation")
	simHours = flag.Duration("simulate", time.Hour, "simulated time of each seed of TestSimulation")
	simTold  = flag.Bool("trace", false, "print the trace of every seed of TestSimulation")
)

// usualSeeds returns how many seeds TestSimulation has by default. With the race detector a
// simulated hour takes eight times as long; the other seeds run without it.
func usualSeeds() int {
	if testnet.RaceEnabled {
		return 4
	}
	return 10
}

// Both nodes carry all kinds of connections for a simulated hour, while their network is cut,
// silent, frozen, slow and changed, keys are reloaded, and either node restarts. Each seed is a
// schedule of its own. Nothing is lost, repeated or cut short without an error; a session ends only
// with a fault that ends it; and nothing is left in the end.
//
// The seeds run one after another, on one processor and with their own source of keys and nonces,
// so that each runs the same way again. The exceptions are a select with two cases ready, of which
// Go chooses by chance, and the race detector, which disturbs the scheduler.
func TestSimulation(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

func newSimWorld(t *testing.T, seed uint64) *simWorld {
	w := &simWorld{
		t: t, seed: seed, began: time.Now(),
		key: newKey(t), remoteKey: newKey(t),
		resumeWindow: mux.DefaultResumeWindow,
		stopping:     make(chan struct{}),
	}
	w.trace.began = w.began
	for i, p := range []*simPath{&w.carriers, &w.clients, &w.targets} {
		p.rng = w.rand(uint64(1000 + i))
	}
	rng := w.rand(0)
	w.carriers.delay, w.carriers.rate = simDelay(rng), simRate(rng)
	return w
}

// simulate runs the simulation of a seed.
func simulate(t *testing.T, seed uint64) {
	w := newSimWorld(t, seed)
	defer w.tell()
	w.startRemote()
	w.startLocal()
	w.session = w.awaitSession(simRecovery)
	if w.session == nil {
		return
	}
	for actor := range uint64(6) {
		door, open := "forward", w.viaForward
		if actor%2 > 0 {
			door, open = "dial", w.viaDial
		}
		w.users.Go(func() { w.use(100+actor, door, open) })
	}
	for actor := range uint64(2) {
		w.users.Go(func() { w.sendDatagrams(200 + actor) })
	}
	w.users.Go(func() { w.refusals(300) })
	schedule := w.rand(1)
	for time.Since(w.began) < *simHours && !t.Failed() {
		time.Sleep(simLogTime(schedule, 500*time.Millisecond, time.Minute)) // synctest
		w.disturb(pickFault(schedule), rand.New(rand.NewPCG(schedule.Uint64(), seed)))
	}
	close(w.stopping)
	w.await("the users to end", w.users.Wait)
	w.await("the local to end", w.stopLocal)
	w.await("the remote to end", w.stopRemote)
}

// await fails the test when f takes longer than any exchange.
func (w *simWorld) await(what string, f func()) {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * simExchangeTime): // synctest
		w.errorf("waited in vain for %s", what)
		w.tell()
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%s\n", stacks[:runtime.Stack(stacks, true)])
	}
}

// tell prints the trace of a simulation that has failed.
func (w *simWorld) tell() {
	w.stats.mu.Lock()
	defer w.stats.mu.Unlock()
	slices.Sort(w.stats.recover)
	if n := len(w.stats.recover); n > 0 {
		w.t.Logf("seed %d: %d faults, recovered within %v (median %v); "+
			"%d exchanges, %d bytes; %d of %d datagrams answered, %d streams refused",
			w.seed, n, w.stats.recover[n-1], w.stats.recover[n/2],
			w.stats.exchanges.Load(), w.stats.bytes.Load(),
			w.stats.answers.Load(), w.stats.datagrams.Load(), w.stats.refusals.Load())
	}
	if !w.t.Failed() && !*simTold {
		return
	}
	w.trace.mu.Lock()
	defer w.trace.mu.Unlock()
	// Not through t.Log: a bubble whose goroutines don't end takes that with it.
	fmt.Fprintf(os.Stderr, "trace of seed %d; to repeat it: make simulate SEEDS=1 FIRST=%d\n%s\n",
		w.seed, w.seed, strings.Join(w.trace.lines, "\n"))
}

func (s *simStats) recovered(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recover = append(s.recover, after)
}
