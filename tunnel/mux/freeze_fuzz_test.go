package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzFreeze is FuzzResume over a path that freezes, in either direction or with an end's process,
// is slow, and repeats what is not sequenced. The client reconnects by itself, as often as it has
// to. No session ends, no stream loses, repeats or reorders a byte, no datagram comes twice, late
// or damaged, and every ping is answered at last.
func FuzzFreeze(f *testing.F) {
	const server = 32 // the operation is the server's
	f.Add([]byte{0, 0, 1, 200, 5, 2, 13, 250, 1, 90, 6, 0, 12, 99, 1, 255, 2, 0})
	f.Add([]byte{
		server, 0, 1, 200, 9, 0, 13, 250, 10, 0,
		1 + server, 90, 9 + server, 1, 13, 80, 10, 0,
	})
	f.Add([]byte{
		0, 0, 7, 0, 13, 12, 1, 9, 8, 0, 16, 3,
		16, 4, 15, 0, 15 + server, 0, 1, 100, 13, 90,
	})
	f.Add([]byte{
		11, 0, 17, 10, 17 + server, 255, 5, 0, 17, 200, 13, 9,
		6, 0, 17, 3, 4, 0, 17, 250, 12, 9,
	})
	f.Add([]byte{
		0, 0, 14, 200, 14 + server, 250, 18, 0, 18 + server, 0,
		13, 7, 19, 0, 19 + server, 0, 3, 0,
	})
	f.Add([]byte{
		0, 0, 1, 255, 5, 1, 13, 13, 5, 0, 13, 30,
		6, 0, 1 + server, 255, 7, 0, 13, 13, 8, 0, 13, 1,
	})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 300 {
			ops = ops[:300]
		}
		synctest.Test(t, func(t *testing.T) { runFreezeModel(t, ops) })
	})
}

// freezeModel is a session over a path, and what is known of it from outside.
type freezeModel struct {
	t       *testing.T
	path    *path
	cfg     Config
	host    *Host
	ends    [2]*Session
	pings   [2]chan struct{}
	users   sync.WaitGroup // of the streams and flows
	helpers sync.WaitGroup // all other goroutines

	mu       sync.Mutex
	carriers []*pathCarrier // the client's ends
	streams  []*pathStream
	flows    []*pathFlow
}

// pathStream is a modelStream that is opened on the way: each end's goroutines begin when that end
// has it.
type pathStream struct {
	modelStream
	opened [2]chan struct{}
}

// pathFlow is a flow and the datagrams that each end has sent.
type pathFlow struct {
	ends [2]*Flow
	sent [2]uint32
}

func newFreezeModel(t *testing.T) *freezeModel {
	m := &freezeModel{
		t:    t,
		path: newPath(),
		cfg:  Config{Window: 64 << 10, MaxRetained: 1 << 20, HelloTimeout: 10 * time.Second},
		host: NewHost(HostConfig{ResumeWindow: 24 * time.Hour}),
	}
	near, far := m.path.newCarrier()
	m.carriers = append(m.carriers, near)
	var starting sync.WaitGroup
	starting.Go(func() {
		var err error
		if m.ends[1], _, err = m.host.Accept(t.Context(), far, m.cfg, Peer{Identity: owner}); err != nil {
			t.Error(err)
		}
	})
	var err error
	if m.ends[0], err = NewClient(t.Context(), near, m.cfg); err != nil {
		t.Fatal(err)
	}
	starting.Wait()
	m.helpers.Go(m.keepConnected)
	for end, s := range m.ends {
		m.pings[end] = make(chan struct{}, 1000)
		m.helpers.Go(func() { m.accept(end) })
		m.helpers.Go(func() {
			for range m.pings[end] {
				if _, err := s.Ping(context.Background()); err != nil {
					t.Errorf("a ping failed: %v", err)
				}
			}
		})
	}
	return m
}

// keepConnected brings the client's session a carrier whenever it has none.
func (m *freezeModel) keepConnected() {
	client := m.ends[clientEnd]
	for client.AwaitLoss(context.Background()) == nil {
		m.path.awaitRunning(clientEnd)
		near, far := m.path.newCarrier()
		m.mu.Lock()
		m.carriers = append(m.carriers, near)
		m.mu.Unlock()
		m.helpers.Go(func() {
			s, resumed, err := m.host.Accept(context.Background(), far, m.cfg, Peer{Identity: owner})
			if err == nil && (s != m.ends[serverEnd] || !resumed) {
				m.t.Error("the server has begun another session")
				s.Close()
			}
		})
		s, err := client.Resume(context.Background(), near)
		if err == nil && s != client {
			m.t.Error("the server does not have the session")
			s.Close()
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // synctest
		}
	}
}

// accept takes what the other end opens.
func (m *freezeModel) accept(end int) {
	for {
		in, err := m.ends[end].Accept(context.Background())
		if err != nil {
			return
		}
		switch in := in.(type) {
		case *IncomingFlow:
			flow, err := in.Confirm()
			if err != nil {
				m.t.Errorf("a flow failed: %v", err)
				continue
			}
			m.mu.Lock()
			f := m.flows[0]
			f.ends[end] = flow
			m.mu.Unlock()
			m.users.Go(func() { m.receive(f, end) })
		case *IncomingStream:
			i, err := strconv.Atoi(in.Target().Address)
			if err != nil {
				m.t.Error(err)
			}
			m.mu.Lock()
			st := m.streams[i]
			m.mu.Unlock()
			confirmed, err := in.Confirm()
			if err != nil { // reset before it was accepted
				continue
			}
			m.begin(st, end, confirmed)
		}
	}
}

// begin starts the users of one end of a stream.
func (m *freezeModel) begin(st *pathStream, end int, s *Stream) {
	st.ends[end] = s
	close(st.opened[end])
	m.users.Go(func() { st.write(m.t, end) })
	m.users.Go(func() { st.collect(m.t, end) })
}

// has reports whether an end has the stream.
func (st *pathStream) has(end int) bool {
	select {
	case <-st.opened[end]:
		return true
	default:
		return false
	}
}

// open opens a stream at one end.
func (m *freezeModel) open(end int) {
	m.mu.Lock()
	st := new(pathStream)
	for e := range 2 {
		st.todo[e] = make(chan []byte, 200)
		st.opened[e] = make(chan struct{})
	}
	i := len(m.streams)
	m.streams = append(m.streams, st)
	m.mu.Unlock()
	opened, err := m.ends[end].OpenAtOnce(Target{StreamTCP, strconv.Itoa(i)}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.begin(st, end, opened)
}

// datagram sends a datagram of a flow, which the client opens first.
func (m *freezeModel) datagram(end, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.flows) == 0 {
		flow, err := m.ends[clientEnd].OpenFlowAtOnce("h:1")
		if err != nil {
			m.t.Fatal(err)
		}
		f := &pathFlow{}
		f.ends[clientEnd] = flow
		m.flows = append(m.flows, f)
		m.users.Go(func() { m.receive(f, clientEnd) })
	}
	f := m.flows[0]
	if f.ends[end] == nil {
		return
	}
	f.sent[end]++
	p := binary.BigEndian.AppendUint32(nil, f.sent[end])
	p = append(p, bytes.Repeat([]byte{byte(f.sent[end])}, size)...)
	if _, err := f.ends[end].Send(p); err != nil {
		m.t.Errorf("a datagram was not taken: %v", err)
	}
}

// receive receives and checks what arrives at one end of a flow.
func (m *freezeModel) receive(f *pathFlow, end int) {
	m.mu.Lock()
	flow := f.ends[end]
	m.mu.Unlock()
	defer flow.Close()
	last := uint32(0)
	buf := make([]byte, MaxDatagram)
	for {
		n, err := flow.Receive(buf)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				m.t.Errorf("a flow ended with %v", err)
			}
			return
		}
		number, content := binary.BigEndian.Uint32(buf), buf[4:n]
		if number <= last || bytes.Count(content, []byte{byte(number)}) != len(content) {
			m.t.Errorf("datagram %d of %d bytes after %d", number, n, last)
		}
		last = number
	}
}

// stop stops the process of an end, as nearly as a test can: nothing is read or written, and no
// timer of the session fires.
func (m *freezeModel) stop(end int) {
	m.path.update(func() { m.path.stopped[end] = true })
	s := m.ends[end]
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.link; l != nil {
		l.check.stop()
		l.ack.stop()
	}
	if s.lost.timer != nil {
		s.lost.timer.Stop()
	}
}

// proceed lets the process of an end run again. The timers that are late fire, and what has arrived
// meanwhile is read, in any order.
func (m *freezeModel) proceed(end int) {
	s := m.ends[end]
	s.mu.Lock()
	if l := s.link; l != nil {
		if l.check.timer != nil && !l.check.at.IsZero() {
			l.check.timer.Reset(time.Until(l.check.at))
		}
		if l.ack.timer != nil && !l.ack.firesAt.IsZero() {
			l.ack.timer.Reset(time.Until(l.ack.firesAt))
		}
	}
	if s.lost.timer != nil {
		s.lost.timer.Reset(time.Until(s.lost.since.Add(s.resumption.window)))
	}
	s.mu.Unlock()
	m.path.update(func() { m.path.stopped[end] = false })
}

// thaw lets the path and both processes continue.
func (m *freezeModel) thaw() {
	for end := range m.ends {
		if m.path.stopped[end] {
			m.proceed(end)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.path.update(func() {
		m.path.frozen = [2]bool{}
		for _, c := range m.carriers {
			c.frozen, c.peer.frozen = false, false
		}
	})
}

func runFreezeModel(t *testing.T, ops []byte) {
	m := newFreezeModel(t)
	for ; len(ops) >= 2; ops = ops[2:] {
		m.step(int(ops[0])%32, int(ops[0])/32%2, int(ops[1]))
	}
	m.finish()
}

// step takes one step of the model.
func (m *freezeModel) step(op, end, arg int) {
	p := m.path
	m.mu.Lock()
	var st *pathStream
	if len(m.streams) > 0 {
		st = m.streams[arg%len(m.streams)]
	}
	carrier := m.carriers[len(m.carriers)-1]
	m.mu.Unlock()
	switch {
	case op == 0 && len(m.streams) < 20:
		m.open(end)
	case op == 1 && st != nil && !st.over[end] && !st.cut && len(st.todo[end]) < cap(st.todo[end]):
		st.send(end, arg*97)
	case op == 2 && st != nil && !st.over[end] && !st.cut:
		st.over[end] = true
		close(st.todo[end])
	case op == 3 && st != nil && !st.cut && !(st.over[0] && st.over[1]) && st.has(end):
		st.cut = true
		st.ends[end].Reset(CodeAborted)
	case op == 4:
		p.update(carrier.cutLocked)
	case op == 5:
		p.update(func() { p.frozen[0], p.frozen[1] = arg%3 != 1, arg%3 != 0 })
	case op == 6:
		m.thaw()
	case op == 7: // the carrier alone; those after it get through
		p.update(func() { carrier.frozen, carrier.peer.frozen = arg%3 != 1, arg%3 != 0 })
	case op == 8:
		p.update(func() { carrier.frozen, carrier.peer.frozen = false, false })
	case op == 9 && !p.stopped[end]:
		m.stop(end)
	case op == 10 && p.stopped[end]:
		m.proceed(end)
	case op == 11:
		time.Sleep(time.Duration(arg) * 100 * time.Microsecond) // synctest
	case op == 12:
		time.Sleep(time.Duration(arg) * time.Millisecond) // synctest
	case op == 13:
		time.Sleep(time.Duration(arg) * 400 * time.Millisecond) // synctest
	case op == 14:
		p.update(func() { p.delay[end] = time.Duration(arg) * 4 * time.Millisecond })
	case op == 15:
		p.update(func() { p.repeat[end] = !p.repeat[end] })
	case op == 16:
		sender := []*pathCarrier{carrier, carrier.peer}[end]
		p.update(func() { sender.replayLocked(arg) })
	case op == 17:
		m.datagram(end, arg*250)
	case op == 18 && len(m.pings[end]) < cap(m.pings[end]):
		m.pings[end] <- struct{}{}
	case op == 19:
		m.ends[end].Probe()
	}
}

// finish lets everything continue, and checks that it comes to its end.
func (m *freezeModel) finish() {
	t, p := m.t, m.path
	m.thaw()
	p.update(func() { p.delay, p.repeat = [2]time.Duration{1, 1}, [2]bool{} })
	for end := range m.ends {
		close(m.pings[end])
	}
	for _, st := range m.streams {
		for e := range 2 {
			if !st.over[e] {
				close(st.todo[e])
			}
		}
	}
	time.Sleep(5 * time.Minute) // synctest: all that can arrive has
	synctest.Wait()
	for end, s := range m.ends {
		stats := s.Stats()
		s.mu.Lock()
		retained := s.out.retained.bytes
		s.mu.Unlock()
		if err := s.Err(); err != nil || stats.Away || retained > 0 {
			t.Errorf("end %d: %v, %d bytes not acknowledged, %+v", end, err, retained, stats)
		}
		s.mu.Lock()
		if s.pings.answered != s.pings.issued {
			t.Errorf("end %d: ping %d of %d answered", end, s.pings.answered, s.pings.issued)
		}
		s.mu.Unlock()
	}
	for _, f := range m.flows {
		f.ends[clientEnd].Close()
	}
	time.Sleep(time.Second) // synctest
	for i, st := range m.streams {
		for e := range 2 {
			want := st.sent[1-e]
			if st.cut && len(st.got[e]) <= len(want) {
				want = want[:len(st.got[e])]
			}
			if !bytes.Equal(st.got[e], want) {
				t.Errorf("stream %d, end %d: %d bytes of %d arrived, or others",
					i, e, len(st.got[e]), len(want))
			}
		}
	}
	waitStreams(t, m.ends[0], 0)
	waitStreams(t, m.ends[1], 0)
	for _, s := range m.ends {
		s.Close()
	}
	m.users.Wait()
	m.helpers.Wait()
}
