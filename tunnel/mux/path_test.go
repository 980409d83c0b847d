package mux

import (
	"crypto/rand"
	"io"
	"sync"
	"time"
)

// The two ends of a path, and the directions: what an end sends.
const (
	clientEnd = iota
	serverEnd
)

// maxOnPath is how many records a carrier holds in each direction, as a network and sockets do.
const maxOnPath = 64

// path is the network between a client and a server, for all carriers of a session. Each direction
// can be frozen: what is sent meanwhile arrives when it continues, also on carriers that an end has
// given up. It is for synctest bubbles.
type path struct {
	mu      sync.Mutex
	changed sync.Cond
	frozen  [2]bool          // what this end sends does not arrive
	stopped [2]bool          // this end's process neither reads nor writes
	delay   [2]time.Duration // of what this end sends
	repeat  [2]bool          // each ping, pong and ack that this end sends comes twice
	seen    [2][]frame       // pings, pongs and acks that this end has sent, on all carriers
}

func newPath() *path {
	p := &path{delay: [2]time.Duration{time.Millisecond, time.Millisecond}}
	p.changed.L = &p.mu
	return p
}

// update changes the path.
func (p *path) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

// awaitRunning waits until the process of an end runs.
func (p *path) awaitRunning(end int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stopped[end] {
		p.changed.Wait()
	}
}

// pathCarrier is one end of a carrier over a path.
type pathCarrier struct {
	securePipe // for Export
	path       *path
	end        int
	peer       *pathCarrier
	inbox      []parcel  // sent by the peer
	wakesAt    time.Time // when whoever waits for the inbox looks again
	frozen     bool      // nothing of the inbox arrives
	closed     bool
}

// parcel is a record on its way, or the end of the carrier.
type parcel struct {
	record []byte
	at     time.Time // when it arrives at the earliest
	end    bool
}

// newCarrier makes a carrier and returns its ends.
func (p *path) newCarrier() (near, far *pathCarrier) {
	secret := make([]byte, 32)
	rand.Read(secret)
	ends := [2]*pathCarrier{}
	for i := range ends {
		ends[i] = &pathCarrier{securePipe: securePipe{secret: secret}, path: p, end: i}
	}
	ends[0].peer, ends[1].peer = ends[1], ends[0]
	return ends[0], ends[1]
}

// arrivesLocked reports whether the first parcel of the inbox has arrived. If it will, whoever
// waits is woken then.
func (c *pathCarrier) arrivesLocked() bool {
	p := c.path
	if len(c.inbox) == 0 || p.frozen[c.peer.end] || c.frozen || p.stopped[c.end] {
		return false
	}
	left := time.Until(c.inbox[0].at)
	if left > 0 && !c.inbox[0].at.Equal(c.wakesAt) {
		c.wakesAt = c.inbox[0].at
		time.AfterFunc(left, func() { p.update(func() {}) })
	}
	return left <= 0
}

func (c *pathCarrier) ReadRecord(buf []byte) ([]byte, error) {
	p := c.path
	p.mu.Lock()
	defer p.mu.Unlock()
	for !c.closed && !c.arrivesLocked() {
		p.changed.Wait()
	}
	if c.closed || c.inbox[0].end {
		return nil, io.ErrUnexpectedEOF
	}
	record := c.inbox[0].record
	c.inbox = c.inbox[1:]
	p.changed.Broadcast()
	return append(buf[:0], record...), nil
}

func (c *pathCarrier) WriteRecords(records ...[]byte) error {
	p := c.path
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, record := range records {
		full := func() bool { return p.stopped[c.end] || len(c.peer.inbox) >= maxOnPath }
		gone := func() bool { return c.closed || (c.peer.closed && !p.frozen[serverEnd-c.end]) }
		for full() && !gone() {
			p.changed.Wait()
		}
		if gone() {
			return io.ErrClosedPipe
		}
		c.sendLocked(record)
		controls := unsequenced(record)
		p.seen[c.end] = append(p.seen[c.end], controls...)
		for _, f := range controls {
			if p.repeat[c.end] {
				c.sendLocked(appendFrame(nil, f.kind, f.stream, f.payload))
			}
		}
	}
	return nil
}

// sendLocked puts a record on its way.
func (c *pathCarrier) sendLocked(record []byte) {
	arrival := time.Now().Add(c.path.delay[c.end])
	if n := len(c.peer.inbox); n > 0 && c.peer.inbox[n-1].at.After(arrival) {
		arrival = c.peer.inbox[n-1].at // records don't overtake each other
	}
	c.peer.inbox = append(c.peer.inbox, parcel{record: append([]byte(nil), record...), at: arrival})
	c.path.changed.Broadcast()
}

// replayLocked sends a ping, pong or ack once more that this end has sent, on any carrier.
func (c *pathCarrier) replayLocked(i int) {
	if seen := c.path.seen[c.end]; len(seen) > 0 && !c.closed {
		f := seen[i%len(seen)]
		c.sendLocked(appendFrame(nil, f.kind, f.stream, f.payload))
	}
}

// unsequenced returns a copy of the pings, pongs and acks in a record.
func unsequenced(record []byte) (frames []frame) {
	for len(record) > 0 {
		f, rest, err := parseFrame(record)
		if err != nil {
			panic("mux: a session wrote what is no frame: " + err.Error())
		}
		if f.kind == kindPing || f.kind == kindPong || f.kind == kindAck {
			f.payload = append([]byte(nil), f.payload...)
			frames = append(frames, f)
		}
		record = rest
	}
	return frames
}

// Close ends the carrier at this end. The peer notices when that has arrived.
func (c *pathCarrier) Close() error {
	c.path.update(func() {
		if !c.closed {
			c.closed, c.inbox = true, nil
			c.peer.inbox = append(c.peer.inbox, parcel{end: true})
		}
	})
	return nil
}

// cutLocked ends the carrier at both ends, and loses what is on its way.
func (c *pathCarrier) cutLocked() {
	for _, e := range []*pathCarrier{c, c.peer} {
		e.inbox = []parcel{{end: true}}
		e.frozen = false
	}
}
