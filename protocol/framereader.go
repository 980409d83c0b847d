package protocol

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// frameReader finds the messages in a stream of WebSocket frames (RFC 6455, section 5). It knows
// nothing of the connection: answering pings and closes, and handling errors, is up to its user.
//
// A message that is one frame, as nearly all are, is returned where it arrived, without a copy.
// Only the beginning of a frame that a read cut off is moved to the front of the buffer.
//
// A frameReader must not be used concurrently.
type frameReader struct {
	source   io.Reader
	isServer bool // the peer is a client
	limit    int  // of a message, in bytes; it may be changed between two messages

	// buf[start:end] has arrived and is not returned yet. The latest message is before start. The
	// buffer starts small and grows with what has arrived, never by what a header announces.
	buf        []byte
	start, end int
	filled     bool  // the last read left no room in buf
	readErr    error // of source; reported when what arrived before it is used up

	// parts is what has arrived of a message in several frames, and partsType that message's type;
	// 0 when there is none.
	parts     []byte
	partsType int

	lastLarge time.Time // when a read brought more than the smallest buffer holds

	// marker, unless it is nil, sets how many bytes the source's socket must hold to wake a read; 0
	// stands for any. pieces reports that frames arrive in small pieces.
	marker interface{ mark(bytes int) }
	pieces bool

	err error // the first error of next, which sticks
}

// newFrameReader returns a reader of early, which it copies, and then of source. isServer reports
// whether this end is the server.
func newFrameReader(source io.Reader, isServer bool, early []byte) *frameReader {
	r := &frameReader{source: source, isServer: isServer,
		buf: make([]byte, max(minReadBuffer, len(early)))}
	r.end = copy(r.buf, early)
	r.filled = r.end == len(r.buf)
	return r
}

// next returns the next whole message, or a ping or pong, which may come between the frames of a
// message. opcode is one of websocket's message types. The payload is valid until the next call,
// and may be changed.
//
// Every error is final. It is a frameError when the peer violates RFC 6455, ErrTooLarge as soon as
// a header announces a message beyond the limit, a *websocket.CloseError when the peer closes,
// io.ErrUnexpectedEOF when the stream ends without that, and otherwise an error of the source.
func (r *frameReader) next() (opcode int, payload []byte, err error) {
	if r.err != nil {
		return 0, nil, r.err
	}
	for {
		var h frameHeader
		if h, payload, r.err = r.readFrame(); r.err != nil {
			return 0, nil, r.err
		}
		switch {
		case h.opcode == websocket.CloseMessage:
			r.err = closeError(payload)
			return 0, nil, r.err
		case h.final && h.opcode != opcodeContinuation: // all control frames, for one
			return h.opcode, payload, nil
		case h.opcode != opcodeContinuation:
			r.partsType, r.parts = h.opcode, r.parts[:0]
		}
		r.parts = append(r.parts, payload...)
		if h.final {
			opcode, r.partsType = r.partsType, 0
			return opcode, r.parts, nil
		}
	}
}

// awaitSome returns once some of what next returns has arrived, or an error. Before it waits it
// calls idle, and lets go of buffers that have grown and weren't needed recently.
func (r *frameReader) awaitSome(idle func()) {
	if r.err != nil || r.readErr != nil || r.start < r.end {
		return
	}
	grown := len(r.buf) > minReadBuffer || cap(r.parts) > minReadBuffer
	if grown && r.partsType == 0 && time.Since(r.lastLarge) > readBufferKeep {
		r.buf, r.start, r.end = make([]byte, minReadBuffer), 0, 0
		r.parts = nil
	}
	idle()
	_ = r.await(1) // an error sticks, and is that of next
}

// readFrame returns the next frame when it has arrived as a whole, with its payload unmasked.
func (r *frameReader) readFrame() (h frameHeader, payload []byte, err error) {
	if err = r.await(2); err != nil {
		return h, nil, err
	}
	h = parseFrameHeader(r.buf[r.start], r.buf[r.start+1])
	if err = r.check(h); err != nil {
		return h, nil, err
	}
	if err = r.await(h.size); err != nil {
		return h, nil, err
	}
	length, key := h.rest(r.buf[r.start:])
	if !isControl(h.opcode) && length > uint64(r.room()) {
		return h, nil, ErrTooLarge
	}
	size := h.size + int(length)
	if err = r.await(size); err != nil {
		return h, nil, err
	}
	payload = r.buf[r.start+h.size : r.start+size : r.start+size]
	r.start += size
	if key != (maskKey{}) {
		key.apply(payload)
	}
	return h, payload, nil
}

// check refuses what RFC 6455 forbids in a frame's first two bytes.
//
// A server takes frames without a mask, though section 5.1 has it close the connection: the
// reference's client on Node sends all of its data frames unmasked, and masks its close and pong
// frames. Masking keeps a web page from writing chosen bytes to a proxy; a Node program can write
// them anyway, so nothing is lost.
func (r *frameReader) check(h frameHeader) error {
	switch h.opcode {
	case websocket.CloseMessage, websocket.PingMessage, websocket.PongMessage:
		if h.length7 > maxControlPayload {
			return frameError("control frame too long")
		}
		if !h.final {
			return frameError("control frame in parts")
		}
	case websocket.TextMessage, websocket.BinaryMessage:
		if r.partsType != 0 {
			return frameError("new message before the end of the last")
		}
	case opcodeContinuation:
		if r.partsType == 0 {
			return frameError("continuation of no message")
		}
	default:
		return frameError(fmt.Sprintf("bad opcode %d", h.opcode))
	}
	if h.reserved {
		return frameError("reserved bits set")
	}
	if h.masked && !r.isServer {
		return frameError("masked frame from a server")
	}
	return nil
}

// room returns how much the current message may still grow, in bytes.
func (r *frameReader) room() int {
	if r.partsType == 0 {
		return r.limit
	}
	return max(0, r.limit-len(r.parts))
}

// await returns once n bytes from start on have arrived.
func (r *frameReader) await(n int) error {
	for r.end-r.start < n {
		if err := r.fill(n); err != nil {
			return err
		}
	}
	return nil
}

// fill reads as much as fits with one call, where n bytes are awaited.
func (r *frameReader) fill(n int) error {
	if r.readErr != nil {
		return r.readErr
	}
	if r.start > 0 {
		r.start, r.end = 0, copy(r.buf, r.buf[r.start:r.end])
	}
	// What is awaited bounds the growth; only full reads cause it.
	if most := max(n, bulkReadBuffer); r.filled && len(r.buf) < most {
		grown := make([]byte, min(2*len(r.buf), most))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	missing := n - (r.end - r.start)
	r.markMissing(missing)
	got, err := r.source.Read(r.buf[r.end:])
	left := missing - got
	switch {
	case left >= max(got, minReadBuffer) && got < len(r.buf)-r.end:
		r.pieces = true
	case left <= -usualRecord:
		r.pieces = false
	}
	r.end += got
	r.filled = r.end == len(r.buf)
	if got > minReadBuffer {
		r.lastLarge = time.Now()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // a close frame has to come first
	}
	r.readErr = err
	if got == 0 {
		return err
	}
	return nil
}

// markMissing lets the next read wait for all that is missing of a frame, where frames arrive in
// small pieces: on a path of 100 Mbit/s nearly every packet woke this end, for nothing. The kernel
// holds as much meanwhile, so what a header announces is no reason to wait for more than a record.
func (r *frameReader) markMissing(missing int) {
	switch {
	case r.marker == nil:
	case r.pieces && missing >= minReadBuffer:
		r.marker.mark(min(missing, usualRecord))
	default:
		r.marker.mark(0)
	}
}

// frameError is a peer's violation of RFC 6455. The text is sent to the peer.
type frameError string

func (e frameError) Error() string { return "malformed WebSocket frame: " + string(e) }

// closeError returns the error for a close frame (RFC 6455, section 5.5.1).
func closeError(payload []byte) error {
	if len(payload) < 2 {
		return &websocket.CloseError{Code: websocket.CloseNoStatusReceived}
	}
	code, text := int(binary.BigEndian.Uint16(payload)), payload[2:]
	if !mayCloseWith(code) {
		return frameError(fmt.Sprintf("bad close code %d", code))
	}
	if !utf8.Valid(text) {
		return frameError("close reason is not UTF-8")
	}
	return &websocket.CloseError{Code: code, Text: string(text)}
}

// mayCloseWith reports whether a close frame may have the code, with gorilla/websocket's rules: one
// of RFC 6455, section 7.4.1, or 1012 or 1013, which were registered later, or one of the ranges
// for libraries and applications.
func mayCloseWith(code int) bool {
	switch code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseProtocolError,
		websocket.CloseUnsupportedData, websocket.CloseInvalidFramePayloadData,
		websocket.ClosePolicyViolation, websocket.CloseMessageTooBig,
		websocket.CloseMandatoryExtension, websocket.CloseInternalServerErr,
		websocket.CloseServiceRestart, websocket.CloseTryAgainLater:
		return true
	}
	return code >= 3000 && code <= 4999
}
