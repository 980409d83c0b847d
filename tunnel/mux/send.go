package mux

import (
	"errors"
	"io"
	"net"
	"os"
)

// Write queues p for sending and returns when all of it is queued. It blocks while the stream's send buffer is full.
func (st *Stream) Write(p []byte) (int, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for {
		if err := st.awaitRoom(); err != nil {
			return total, err
		}
		if len(p) == 0 {
			return total, nil
		}
		n := min(len(p), s.cfg.SendBuffer-st.send.queue.len)
		st.send.queue.write(p[:n])
		s.wakeSender(st)
		total += n
		p = p[n:]
		if len(p) == 0 {
			return total, nil
		}
	}
}

// ReadFrom sends what r gives until its end (then the error is nil) or an error of either. It saves the copy that Write
// makes. It does not end the stream's half: that is CloseWrite.
func (st *Stream) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	c := newChunk(largeChunk)
	defer func() { c.free() }()
	for {
		err := st.waitRoom()
		if err != nil {
			return total, err
		}
		n, readErr := r.Read(c.buf)
		if n > 0 {
			c.w = n
			if c, err = st.enqueue(c); err != nil {
				return total, err
			}
			total += int64(n)
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return total, nil
		case readErr != nil:
			return total, readErr
		}
	}
}

// enqueue sends the filled part of c and returns a chunk to fill next: a new one, or c again when its few bytes were
// copied, so that a queue of small pieces does not hold large chunks. When nothing can be sent any more it returns why.
func (st *Stream) enqueue(c *chunk) (*chunk, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.send.err != nil:
		return c, st.send.err
	case st.send.fin:
		return c, net.ErrClosed
	}
	if c.w <= smallChunk {
		st.send.queue.write(c.buf[:c.w])
		c.w = 0
	} else {
		st.send.queue.push(c)
		c = newChunk(largeChunk)
	}
	s.wakeSender(st)
	return c, nil
}

func (st *Stream) waitRoom() error {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.awaitRoom()
}

// awaitRoom waits until the send buffer has room; else it returns why nothing can be sent. Called with the session's
// mutex held.
func (st *Stream) awaitRoom() error {
	h := &st.send
	for {
		switch {
		case h.err != nil:
			return h.err
		case h.fin:
			return net.ErrClosed
		case st.datagrams != nil:
			return errDatagrams
		case h.deadline.expired:
			return os.ErrDeadlineExceeded
		case h.queue.len < st.session.cfg.SendBuffer:
			return nil
		}
		h.wake.Wait()
	}
}

// CloseWrite ends the sending half after what was written. The peer then reads io.EOF.
func (st *Stream) CloseWrite() error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.send.err != nil {
		return st.send.err
	}
	if st.closed {
		return net.ErrClosed
	}
	st.send.fin = true
	st.send.wake.Broadcast()
	s.wakeSender(st)
	return nil
}

// canSend says that the stream has a frame for the writer now: data with credit, or its end.
func (st *Stream) canSend() bool {
	h := &st.send
	if h.err != nil {
		return false
	}
	if st.datagrams.due() {
		return true
	}
	if h.queue.len > 0 {
		return h.sent < h.limit
	}
	return h.fin && !h.finSent
}

// appendFrames appends the stream's next data frame, and its end when that is due, to a record with room for at least a
// header and minFill bytes. It keeps to the stream's deficit, so that streams share within one quantum. Called by the
// writer with the session's mutex held, when the scheduler has given the stream its turn.
func (st *Stream) appendFrames(b []byte, room int) []byte {
	h := &st.send
	if n := int(min(uint64(h.queue.len), h.limit-h.sent, uint64(min(room-headerSize, maxData, st.turn.deficit)))); n > 0 {
		b = appendHeader(b, kindData, st.id, n)
		start := len(b)
		b = b[:start+n]
		h.queue.read(b[start:])
		h.sent += uint64(n)
		st.turn.deficit -= n
		h.wake.Broadcast()
		room -= headerSize + n
	}
	if h.queue.len == 0 && h.fin && !h.finSent && room >= endSize {
		b = st.appendEnd(b)
	}
	return b
}

// endSize is the room for a fin and a reset.
const endSize = 2*headerSize + 2

func (st *Stream) appendEnd(b []byte) []byte {
	h := &st.send
	h.finSent = true
	b = appendHeader(b, kindFin, st.id, 0)
	if h.resetAfterFin && !st.recv.fin {
		b = appendFrame(b, kindReset, st.id, codePayload(CodeClosed, ""))
		st.session.forget(st)
		return b
	}
	st.forgetIfDone()
	return b
}

// handleCredit raises what may be sent. A limit below the present one is old news, not an error.
func (st *Stream) handleCredit(limit uint64) {
	if limit > st.send.limit {
		st.send.limit = limit
		if st.canSend() {
			st.session.wakeSender(st)
		}
	}
}
