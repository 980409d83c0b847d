package mux

import (
	"container/heap"

	"culvert/internal/bounds"
)

// largest is the streams that hold received data, as a heap: the one that holds most is the first.
// It exists only while a session is near MaxBuffered, since it costs time with each frame. Without
// it, though, each record past MaxBuffered would cost a look at all streams.
type largest []*stream

// The methods of heap.Interface.
func (l largest) Len() int           { return len(l) }
func (l largest) Less(i, j int) bool { return l[i].recv.mem() > l[j].recv.mem() }

func (l largest) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].recv.rank, l[j].recv.rank = int32(i)+1, int32(j)+1
}

// Push appends a stream.
func (l *largest) Push(st any) {
	*l = append(*l, st.(*stream))
	st.(*stream).recv.rank = int32(len(*l))
}

// Pop removes the last stream.
func (l *largest) Pop() any {
	last := len(*l) - 1
	st := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	st.recv.rank = 0
	return st
}

// update puts a stream where it belongs after what it holds has changed.
func (l *largest) update(st *stream) {
	switch holds, at := st.recv.mem() > 0, int(st.recv.rank)-1; {
	case holds && at < 0:
		heap.Push(l, st)
	case holds:
		heap.Fix(l, at)
	case at >= 0:
		heap.Remove(l, at)
	}
}

// rankStreamsLocked finds out which streams hold most. accountLocked keeps it up to date.
func (s *Session) rankStreamsLocked() {
	l := make(largest, 0, len(s.streams.byID))
	for _, st := range s.streams.byID {
		if st.recv.mem() > 0 {
			l.Push(st)
		}
	}
	for st := range s.streams.leftovers {
		l.Push(st)
	}
	heap.Init(&l)
	s.memory.largest = l
}

// boundMemoryLocked resets streams, the largest first, while unread data holds more memory than the
// session may.
func (s *Session) boundMemoryLocked() {
	m := &s.memory
	if m.buffered > s.cfg.MaxBuffered && m.largest == nil {
		s.rankStreamsLocked()
	}
	for m.buffered > s.cfg.MaxBuffered {
		s.cfg.Bounds.Refused(bounds.Buffered)
		m.largest[0].resetLocked(CodeOverload)
	}
	if m.largest != nil && m.buffered < s.cfg.MaxBuffered/4*3 {
		for _, st := range m.largest {
			st.recv.rank = 0
		}
		m.largest = nil
	}
}
