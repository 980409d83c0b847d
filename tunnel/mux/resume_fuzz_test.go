package mux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// modelStream is one stream of FuzzResume, and what is known of it from outside.
type modelStream struct {
	ends [2]*Stream     // of the client and of the server
	sent [2][]byte      // by each end, whole
	todo [2]chan []byte // what each end's writer has still to write; closed for its fin
	got  [2][]byte      // by each end
	over [2]bool        // the end has sent its fin
	cut  bool           // reset by either end

	written [2]atomic.Int64 // bytes that each end's stream has accepted
	least   [2]int          // bytes that have to arrive at each end, although the stream was cut
}

// FuzzResume runs a sequence of operations (open, send, half-close, reset, reset after the data,
// cut, resume) on a session, and compares it with a model of streams without carriers: whatever
// happens to the carrier, each stream delivers what was sent, once and in order, then its end; or,
// when it was reset, a prefix of that, then an error. A reset after the data follows all that was
// written.
func FuzzResume(f *testing.F) {
	f.Add([]byte{0, 1, 1, 200, 4, 0, 1, 50, 5, 0, 2, 0, 4, 0, 5, 0})
	f.Add([]byte{0, 0, 0, 1, 1, 255, 6, 7, 4, 1, 3, 0, 5, 0, 1, 9})
	f.Add([]byte{4, 0, 0, 0, 5, 0, 1, 100, 9, 255, 4, 0, 1, 100, 5, 0, 4, 0, 5, 0, 4, 0, 5, 0})
	f.Add([]byte{0, 0, 1, 255, 1, 255, 1, 255, 4, 0, 5, 0, 1, 255, 4, 0, 2, 0, 10, 0, 5, 0, 3, 0})
	f.Add([]byte{0, 0, 1, 255, 1, 255, 9, 200, 7, 0, 4, 0, 5, 0, 0, 0, 9, 90, 4, 0, 10, 1, 15, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 200 {
			ops = ops[:200]
		}
		synctest.Test(t, func(t *testing.T) { runResumeModel(t, ops) })
	})
}

func runResumeModel(t *testing.T, ops []byte) {
	r := newRig(t, HostConfig{ResumeWindow: 24 * time.Hour},
		Config{Window: 64 << 10, MaxRetained: 1 << 20})
	var streams []*modelStream
	away := false
	for ; len(ops) >= 2; ops = ops[2:] {
		op, arg := ops[0]%8, int(ops[1])
		end := int(ops[0]/8) % 2
		var m *modelStream
		if len(streams) > 0 {
			m = streams[arg%len(streams)]
		}
		switch {
		case op == 0 && !away && len(streams) < 20:
			opened, accepted := openPair(t, r.client, r.server)
			m = &modelStream{ends: [2]*Stream{opened, accepted}}
			for e := range 2 {
				m.todo[e] = make(chan []byte, 200)
				go m.write(t, e)
				go m.collect(t, e)
			}
			streams = append(streams, m)
		case op == 1 && m != nil && !m.over[end] && !m.cut:
			m.send(end, arg*97)
		case op == 2 && m != nil && !m.over[end] && !m.cut:
			m.over[end] = true
			close(m.todo[end])
		case op == 3 && m != nil && !m.cut && !(m.over[0] && m.over[1]):
			m.cut = true
			m.ends[end].Reset(CodeAborted)
		case op == 7 && m != nil && !m.cut && !(m.over[0] && m.over[1]):
			synctest.Wait() // until all is written that there is room for
			m.cut = true
			m.least[1-end] = int(m.written[end].Load())
			m.ends[end].CloseWithReset(CodeAborted)
		case op == 4 && !away:
			r.cut()
			away = true
		case op == 5 && away:
			r.resume()
			away = false
		case op == 6:
			time.Sleep(time.Duration(arg) * time.Millisecond) // synctest
		}
	}
	checkLoad(t, r.client)
	checkLoad(t, r.server)
	if away {
		r.resume()
	}
	for _, m := range streams {
		for e := range 2 {
			if !m.over[e] {
				close(m.todo[e])
			}
		}
	}
	time.Sleep(10 * time.Second) // synctest: all that can arrive has
	synctest.Wait()
	for i, m := range streams {
		for e := range 2 {
			want := m.sent[1-e]
			if m.cut && len(m.got[e]) <= len(want) {
				want = want[:len(m.got[e])]
			}
			if !bytes.Equal(m.got[e], want) {
				t.Errorf("stream %d, end %d: %d bytes of %d arrived, or others", i, e,
					len(m.got[e]), len(want))
			}
			if len(m.got[e]) < m.least[e] {
				t.Errorf("stream %d, end %d: %d bytes arrived, but %d were written before the reset",
					i, e, len(m.got[e]), m.least[e])
			}
		}
	}
	waitStreams(t, r.client, 0)
	waitStreams(t, r.server, 0)
	expectNoLoad(t, r)
}

// send gives the end's writer n bytes that depend on their offset.
func (m *modelStream) send(end, n int) {
	b := make([]byte, n)
	for i := range b {
		o := len(m.sent[end]) + i
		b[i] = byte(o) ^ byte(o>>8) ^ byte(end*85)
	}
	m.sent[end] = append(m.sent[end], b...)
	m.todo[end] <- b
}

// write writes what the end has to write, then its fin. Only a reset may prevent it.
func (m *modelStream) write(t *testing.T, end int) {
	for b := range m.todo[end] {
		n, err := m.ends[end].Write(b)
		m.written[end].Add(int64(n))
		if err != nil && !isCut(err) {
			t.Errorf("end %d: write: %v", end, err)
		}
	}
	m.ends[end].CloseWrite()
}

// isCut reports whether an error is that of a stream that was reset by either end.
func isCut(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}

// collect reads until the end.
func (m *modelStream) collect(t *testing.T, end int) {
	buf := make([]byte, 1<<10)
	for {
		n, err := m.ends[end].Read(buf)
		m.got[end] = append(m.got[end], buf[:n]...)
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
		case !isCut(err):
			t.Errorf("end %d: %v", end, err)
		}
		return
	}
}
