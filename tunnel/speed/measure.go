package speed

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/tcpinfo"
)

// Config is what a measurement takes.
type Config struct {
	// Open opens a stream to a service of the remote.
	Open func(ctx context.Context, service string) (net.Conn, error)

	// TCP returns what is known of the session's connection at this end, nil for nothing.
	TCP func() *tcpinfo.Info

	// Window is how long each direction is measured, after a warm-up.
	Window time.Duration

	// OnProgress, unless it is nil, is called some times a second.
	OnProgress func(Progress)
}

// Phase is a part of a measurement.
type Phase string

// The phases, in their order.
const (
	PhaseIdle     Phase = "idle"
	PhaseDownload Phase = "download"
	PhaseUpload   Phase = "upload"
)

// Progress is how far a measurement is.
type Progress struct {
	Phase Phase
	Done  float64 // of the phase, from 0 to 1
	Rate  float64 // bytes a second so far; 0 if it is not known yet
}

// Result is what was measured.
type Result struct {
	Idle     Trips
	Download Transfer
	Upload   Transfer
}

// Trips are round trips through the session, which include both processes.
type Trips struct {
	Median time.Duration
	Jitter time.Duration // the mean difference of two in a row, as in RFC 3550, section 6.4.1
	Count  int
}

// Transfer is a direction.
type Transfer struct {
	Rate   float64       // bytes a second that have arrived
	Bytes  int64         // of the measurement, without the warm-up
	Took   time.Duration // the same
	Loaded Trips         // meanwhile
	Reason Reason

	// Segments is how many segments with data TCP has sent, and Resent how many of them it sent
	// again though the receiver had not got them. Both are -1 if they are not known.
	Segments, Resent int64
}

// Measure measures a session, which should carry nothing else. It takes twice the window, and some
// round trips and seconds.
func Measure(ctx context.Context, cfg Config) (result Result, err error) {
	m := &measurement{cfg: cfg, began: time.Now()}
	if m.control, err = cfg.Open(ctx, Control); err != nil {
		return result, err
	}
	defer m.control.Close()
	defer context.AfterFunc(ctx, func() { m.control.SetDeadline(time.Unix(1, 0)) })()
	m.answers = bufio.NewReaderSize(m.control, maxLine)
	if result.Idle, err = m.idle(ctx); err == nil {
		result.Download, err = m.transfer(ctx, PhaseDownload)
	}
	if err == nil {
		result.Upload, err = m.transfer(ctx, PhaseUpload)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return result, err
}

// measurement is a call of Measure.
type measurement struct {
	cfg     Config
	began   time.Time
	control net.Conn
	answers *bufio.Reader
	trip    time.Duration // while idle

	sent, received atomic.Int64
}

// ask sends a request and reads the answer.
func (m *measurement) ask(op string, answer any) error {
	if err := m.control.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	line, err := json.Marshal(request{op})
	if err != nil {
		return err
	}
	if _, err := m.control.Write(append(line, '\n')); err != nil {
		return err
	}
	if line, err = m.answers.ReadSlice('\n'); err != nil {
		return err
	}
	return json.Unmarshal(line, answer)
}

// ping measures a round trip.
func (m *measurement) ping() (time.Duration, error) {
	began := time.Now()
	err := m.ask(opPing, &struct{}{})
	return time.Since(began), err
}

// look takes a snapshot of both ends.
func (m *measurement) look() (s look, err error) {
	s.local = newSnapshot(m.began, m.cfg.TCP(), m.sent.Load(), m.received.Load())
	err = m.ask(opLook, &s.remote)
	return s, err
}

// look is a snapshot of both ends, less than a round trip apart.
type look struct{ local, remote Snapshot }

func (m *measurement) progress(p Progress) {
	if m.cfg.OnProgress != nil {
		m.cfg.OnProgress(p)
	}
}

// idle measures round trips.
func (m *measurement) idle(ctx context.Context) (Trips, error) {
	var trips []time.Duration
	if _, err := m.ping(); err != nil { // which may have to wait for what a session begins with
		return Trips{}, err
	}
	tick := time.NewTicker(pingPause)
	defer tick.Stop()
	for i := range idlePings {
		trip, err := m.ping()
		if err != nil {
			return Trips{}, err
		}
		trips = append(trips, trip)
		m.progress(Progress{Phase: PhaseIdle, Done: float64(i+1) / idlePings})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Trips{}, context.Cause(ctx)
		}
	}
	m.trip = slices.Min(trips)
	return newTrips(trips), nil
}

func newTrips(trips []time.Duration) Trips {
	if len(trips) == 0 {
		return Trips{}
	}
	var sum time.Duration
	for i := range trips[1:] {
		sum += (trips[i+1] - trips[i]).Abs()
	}
	t := Trips{Count: len(trips), Jitter: sum / time.Duration(max(1, len(trips)-1))}
	t.Median = slices.Sorted(slices.Values(trips))[len(trips)/2]
	return t
}

// transfer measures a direction.
func (m *measurement) transfer(ctx context.Context, phase Phase) (Transfer, error) {
	flow, err := m.start(ctx, phase)
	if err != nil {
		return Transfer{}, err
	}
	looks, trips, err := m.watch(ctx, flow)
	flow.stop()
	if err != nil {
		return Transfer{}, err
	}
	return summarize(phase, looks, trips, m.trip)
}

// watch pings and looks while data flows, and returns what came after the warm-up.
func (m *measurement) watch(
	ctx context.Context, flow *flow,
) (looks []look, trips []time.Duration, err error) {
	warmup := min(max(warmupTrips*m.trip, minWarmup), maxWarmup)
	tick := time.NewTicker(pingPause)
	defer tick.Stop()
	began := time.Now()
	var first time.Time // of the looks
	for i := 0; ; i++ {
		elapsed := time.Since(began)
		warm := elapsed >= warmup
		over := len(looks) > 0 && time.Since(first) >= m.cfg.Window
		// A step may take long: a round trip behind full queues.
		if over || warm && len(looks) == 0 || i%lookEvery == 0 {
			if warm && len(looks) == 0 {
				first = time.Now()
			}
			seen, err := m.look()
			if err != nil || flow.ended() {
				return looks, trips, err
			}
			if warm {
				looks = append(looks, seen)
			}
		} else {
			trip, err := m.ping()
			if err != nil {
				return nil, nil, err
			}
			if warm {
				trips = append(trips, trip)
			}
		}
		p := Progress{Phase: flow.phase}
		p.Done = min(float64(elapsed)/float64(warmup+m.cfg.Window), 1)
		if n := len(looks); n > 1 {
			_, _, p.Rate = rateOf(flow.phase, looks[0], looks[n-1])
		}
		m.progress(p)
		if over {
			return looks, trips, nil
		}
		select {
		case <-tick.C:
		case <-flow.done:
			return looks, trips, nil
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// flow is the streams that carry data in a direction.
type flow struct {
	phase  Phase
	conns  []net.Conn
	moving sync.WaitGroup
	once   sync.Once
	done   chan struct{} // closed when a stream has ended
}

// start opens the streams and starts to move data.
func (m *measurement) start(ctx context.Context, phase Phase) (*flow, error) {
	f := &flow{phase: phase, done: make(chan struct{})}
	service, move := Download, m.receive
	if phase == PhaseUpload {
		service, move = Upload, m.send
	}
	for range streams {
		conn, err := m.cfg.Open(ctx, service)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.conns = append(f.conns, conn)
		f.moving.Go(func() {
			move(conn)
			f.once.Do(func() { close(f.done) })
		})
	}
	return f, nil
}

// receive returns when the stream ends.
func (m *measurement) receive(conn net.Conn) {
	buffer := make([]byte, bufferSize)
	for {
		n, err := conn.Read(buffer)
		m.received.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// send returns when the stream ends.
func (m *measurement) send(conn net.Conn) {
	for {
		n, err := conn.Write(data[:])
		m.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// ended reports whether one of the streams has ended.
func (f *flow) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// stop ends the streams.
func (f *flow) stop() {
	for _, conn := range f.conns {
		conn.Close()
	}
	f.moving.Wait()
}
