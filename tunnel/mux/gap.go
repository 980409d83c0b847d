package mux

import (
	"time"

	"culvert/tunnel/mux/pace"
)

// gapTimer wakes a writer that may send no more, while acknowledgements don't come because the
// peer's transport waits for something that was lost.
type gapTimer struct {
	timer *time.Timer
	set   bool
}

func (g *gapTimer) stop() {
	if g.timer != nil {
		g.timer.Stop()
	}
}

// watchGapLocked sets the timer where gaps are likely. It is called when nothing may be sent until
// an acknowledgement comes.
func (l *link) watchGapLocked() {
	g := &l.gap
	if g.set || !l.pace.WatchesGaps() {
		return
	}
	g.set = true
	if g.timer == nil {
		g.timer = time.AfterFunc(pace.GapInterval, l.lookForGap)
	} else {
		g.timer.Reset(pace.GapInterval)
	}
}

// lookForGap lets the writer send more if acknowledgements don't come.
func (l *link) lookForGap() {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	l.gap.set = false
	if s.link != l || s.err != nil {
		return
	}
	inflight := s.out.position - s.out.acked
	if l.pace.CanSend(inflight) {
		return
	}
	if time.Since(l.ackedAt) >= pace.GapInterval {
		l.pace.OnStalled()
	}
	if l.pace.CanSend(inflight) {
		s.out.wake.Broadcast()
	} else {
		l.watchGapLocked()
	}
}
