package cli

import (
	"context"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"culvert/internal/cputime"
)

const (
	// processorsInterval is the time between two looks at how busy the process is.
	processorsInterval = 2 * time.Second

	// The process uses all processors after busyChecks looks at which goroutines waited for one, on
	// average busyQueue for each that it uses, and half of the others were idle. It uses half again
	// after calmChecks looks with a tenth of that.
	busyQueue  = 1.0
	busyChecks = 2
	calmChecks = 15
)

// shareProcessors makes the process use half of the processors at once. One end of a tunnel mostly
// moves bytes between sockets in short steps that wake each other; with more processors, what it
// gains by doing two steps at once goes into waking the other processor and searching for work
// there. With two processors and four processes for a transfer on one machine, this saves a tenth
// to a quarter of the CPU time per gigabyte. GOMAXPROCS in the environment has precedence.
func shareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(half(runtime.GOMAXPROCS(0)))
	}
}

// half returns how many of n processors the process uses unless it needs more.
func half(n int) int { return (n + 1) / 2 }

// processorLoad is how busy the process and the machine were during a time.
type processorLoad struct {
	queue float64 // goroutines that waited for a processor, on average
	idle  float64 // the machine's processors that were idle, on average
}

// processors lets the number of processors that are used at once follow the load: half of them, as
// shareProcessors sets it, or all while half is too little and the others have nothing to do. What
// all are is up to Go, which follows the machine and the limits of the cgroup.
type processors struct {
	load   func() processorLoad // since the last call
	useAll func() (n int)       // lets Go's rule hold, and returns the number
	use    func(n int)

	all, used  int
	busy, calm int // looks in a row
}

// followLoad sets the number of processors by the load until ctx is done, unless GOMAXPROCS is set
// in the environment.
func followLoad(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	p := processors{
		load: newLoadMeter().read,
		useAll: func() int {
			runtime.SetDefaultGOMAXPROCS()
			return runtime.GOMAXPROCS(0)
		},
		use: func(n int) { runtime.GOMAXPROCS(n) },
	}
	p.run(ctx)
}

func (p *processors) run(ctx context.Context) {
	p.useHalf()
	p.load()
	tick := time.NewTicker(processorsInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.check(p.load())
		case <-ctx.Done():
			return
		}
	}
}

// useHalf asks Go for the number of all first: a cgroup's limit may have changed.
func (p *processors) useHalf() {
	p.all = p.useAll()
	p.used = half(p.all)
	p.use(p.used)
	p.busy, p.calm = 0, 0
}

func (p *processors) check(l processorLoad) {
	waiting := l.queue / float64(p.used)
	if p.used < p.all && waiting >= busyQueue && l.idle >= float64(p.all-p.used)/2 {
		p.busy++
	} else {
		p.busy = 0
	}
	if waiting < busyQueue/10 {
		p.calm++
	} else {
		p.calm = 0
	}
	switch {
	case p.busy >= busyChecks:
		p.all = p.useAll()
		p.used = p.all
		p.busy, p.calm = 0, 0
	case p.calm >= calmChecks:
		p.useHalf()
	}
}

// loadMeter measures the load between two calls of read.
type loadMeter struct {
	at     time.Time
	waited float64 // seconds that goroutines have waited for a processor, all together
	idle   float64 // seconds that the machine's processors were idle, all together
}

func newLoadMeter() *loadMeter {
	m := &loadMeter{}
	m.read()
	return m
}

func (m *loadMeter) read() processorLoad {
	before := *m
	*m = loadMeter{time.Now(), waitedSeconds(), idleSeconds()}
	elapsed := m.at.Sub(before.at).Seconds()
	if before.at.IsZero() || elapsed <= 0 {
		return processorLoad{}
	}
	return processorLoad{(m.waited - before.waited) / elapsed, (m.idle - before.idle) / elapsed}
}

// waitedSeconds returns the time that goroutines have waited for a processor, all together. The
// runtime times one wait in trackedWaits.
func waitedSeconds() float64 {
	const trackedWaits = 8
	samples := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(samples)
	if samples[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	h := samples[0].Value.Float64Histogram()
	sum := 0.0
	for i, n := range h.Counts {
		if n > 0 {
			sum += float64(n) * max(0, h.Buckets[i])
		}
	}
	return trackedWaits * sum
}

// idleSeconds returns for how long the machine's processors were idle, all together. Where nothing
// tells, they count as idle all the time.
func idleSeconds() float64 {
	if idle := cputime.Read().Idle; idle > 0 {
		return idle.Seconds()
	}
	return time.Since(processBegan).Seconds() * float64(runtime.NumCPU())
}

var processBegan = time.Now()
