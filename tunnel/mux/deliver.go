package mux

import (
	"errors"
	"io"
	"time"

	"culvert/internal/rawsock"
)

// delivery writes what arrives for a stream: see Deliver. The session's mutex guards it.
type delivery struct {
	w       io.Writer
	out     *rawsock.Writer // to w
	end     func(error)
	running bool // there is a goroutine that writes, or will be after the pause

	pause *time.Timer // until the meter permits to write; nil while there is none
	paid  int         // bytes that the meter has permitted
}

// Deliver writes what arrives to w until the peer's fin or an error, and then calls end with what
// WriteTo would return. Unlike WriteTo it does not wait, and it has a goroutine only while there is
// something to write: an idle stream needs none. The caller has to wait for end. Deliver replaces
// Read and WriteTo, and ignores the read deadline. It uses w's write deadline, which it sets with
// the session locked, unless w is a stream itself.
func (st *Stream) Deliver(w io.Writer, end func(error)) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.recv.delivery = &delivery{w: w, out: rawsock.NewWriter(w), end: end}
	st.wakeReaderLocked()
}

// wakeReaderLocked wakes whoever waits for data, an end or an error.
func (st *stream) wakeReaderLocked() {
	st.recv.wake.Broadcast()
	d := st.recv.delivery
	switch {
	case d == nil:
	case !d.running && st.readableLocked() != errNotYet:
		d.running = true
		go st.deliver(d)
	case d.pause != nil && st.recv.queue.len == 0 && d.pause.Stop(): // there is nothing to wait for
		go st.deliver(d)
	}
}

// deliver writes until there is nothing more to write.
func (st *stream) deliver(d *delivery) {
	s := st.session
	out := newBlockWriter(d.w, d.out)
	defer out.free()
	s.mu.Lock()
	d.pause = nil
	for {
		err := st.readableLocked()
		clean := errors.Is(err, io.EOF) // an error of w is not
		if err == nil {
			if st.pauseDeliveryLocked(d, out) {
				s.mu.Unlock()
				return
			}
			var n int64
			n, err = st.writeSomeLocked(out)
			st.settleDeliveryLocked(d, n)
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, errNotYet):
			d.running = false
			s.mu.Unlock()
			return
		}
		st.recv.delivery = nil
		s.mu.Unlock()
		if clean {
			err = nil
		}
		d.end(err)
		return
	}
}
