package mux

import (
	"encoding/binary"

	"culvert/internal/bounds"
)

// controlLoad counts control frames, and their bytes with headers, by who has caused them.
type controlLoad struct {
	answers  frameCount // by the peer: see isAnswer
	requests frameCount // by this side's user: open, fin and reset of its own streams, draining
}

// frameCount is a number of frames and their bytes.
type frameCount struct{ frames, bytes int }

func (c *frameCount) add(more frameCount) {
	c.frames += more.frames
	c.bytes += more.bytes
}

func (c *frameCount) subtract(less frameCount) {
	c.frames -= less.frames
	c.bytes -= less.bytes
}

// exceeds reports whether there are more frames or bytes than a limit of streams can cause.
func (c frameCount) exceeds(streams int) bool {
	return c.frames > streams*maxStreamControl || c.bytes > streams*maxStreamControlBytes
}

func (c *controlLoad) add(more controlLoad) {
	c.answers.add(more.answers)
	c.requests.add(more.requests)
}

func (c *controlLoad) subtract(less controlLoad) {
	c.answers.subtract(less.answers)
	c.requests.subtract(less.requests)
}

// loadOf returns the load of one control frame with a payload of n bytes.
func (s *Session) loadOf(k kind, stream uint32, n int) (load controlLoad) {
	count := frameCount{1, headerSize + n}
	if s.isAnswer(k, stream) {
		load.answers = count
	} else {
		load.requests = count
	}
	return load
}

// isAnswer reports whether a control frame is one that a peer can make this side send without end:
// all that concerns a stream which the peer has opened, and credit, which follows from its data.
func (s *Session) isAnswer(k kind, stream uint32) bool {
	return k == kindCredit || (stream != 0 && !s.isOwn(stream))
}

// queueControlLocked queues a control frame: a sequenced frame that goes before all stream data.
func (s *Session) queueControlLocked(k kind, stream uint32, payload []byte) {
	if s.out.closing || s.err != nil {
		return
	}
	var header [headerSize]byte
	s.out.control.write(appendHeader(header[:0], k, stream, len(payload)))
	s.out.control.write(payload)
	s.out.queued.add(s.loadOf(k, stream, len(payload)))
	s.out.wake.Broadcast()
}

// packControlLocked appends queued control frames to a record.
func (s *Session) packControlLocked(p *packer) {
	q := &s.out.control
	for q.len > 0 {
		var header [headerSize]byte
		q.peek(header[:])
		word := binary.BigEndian.Uint32(header[:])
		size := headerSize + int(word&0xffffff)
		if size > p.left() {
			return
		}
		start := len(p.b)
		p.b = p.b[:start+size]
		q.read(p.b[start:])
		load := s.loadOf(kind(word>>24), binary.BigEndian.Uint32(header[4:]), size-headerSize)
		s.out.queued.subtract(load)
		p.load.add(load)
	}
}

// countControlLocked counts a control frame that was put into a record without having been queued.
func (s *Session) countControlLocked(p *packer, k kind, stream uint32, payload int) {
	p.load.add(s.loadOf(k, stream, payload))
}

// controlLoadLocked returns the control frames that are queued, or retained because the peer has
// not acknowledged them.
func (s *Session) controlLoadLocked() controlLoad {
	load := s.out.queued
	load.add(s.out.retained.load)
	return load
}

// loadedStreams is the number of streams whose control frames a session has to bear: the limit that
// it has set its peer, and never less than leastLoadedStreams.
func (s *Session) loadedStreams() int { return max(s.cfg.MaxStreams, leastLoadedStreams) }

// checkAnswersLocked returns an error when the peer has caused more than it reads or acknowledges.
func (s *Session) checkAnswersLocked() error {
	answers := s.controlLoadLocked().answers
	if !answers.exceeds(s.loadedStreams()) {
		return nil
	}
	err := protocolErrorf("%d frames of %d bytes are neither read nor acknowledged", answers.frames,
		answers.bytes)
	return &bounds.Error{Bound: bounds.ControlFrames, Err: err}
}

// overloadedLocked reports whether so many frames of this side's own streams are on their way that
// it must open no more.
func (s *Session) overloadedLocked() bool {
	return s.controlLoadLocked().requests.exceeds(s.loadedStreams())
}

// refusalTextLocked returns the text for a refusal, or none when the peer already has to
// acknowledge much: texts are for logs, and must not lead to the session's end.
func (s *Session) refusalTextLocked(text string) string {
	if s.controlLoadLocked().answers.bytes > s.loadedStreams()*maxStreamControlBytes/4 {
		return ""
	}
	return text
}
