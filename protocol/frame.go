package protocol

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// The layout of frames (RFC 6455, section 5.2). gorilla/websocket, which does the HTTP upgrade,
// copies each message into a buffer of its own and makes a system call for each. Here a record is
// sealed in place, inside its frame, and as many as are ready are written together.

// Bits of a frame's first two bytes.
const (
	frameFinal    = 0x80 // the message ends with this frame
	frameReserved = 0x70 // for extensions, of which none is used here
	frameOpcode   = 0x0f

	frameMaskBit    = 0x80
	frameLengthBits = 0x7f
)

const (
	// opcodeContinuation is that of a message's second and later frames. The other opcodes are
	// websocket's message types.
	opcodeContinuation = 0

	frameLength16 = 126 // in the length's 7 bits: a 16-bit length follows
	frameLength64 = 127 // the same for 64 bits

	// maxLength7 and maxLength16 are the longest payloads whose length takes 7 and 16 bits.
	maxLength7  = frameLength16 - 1
	maxLength16 = 1<<16 - 1

	maskKeySize    = 4
	maxFrameHeader = 2 + 8 + maskKeySize

	// maxControlPayload is the longest payload of a close, ping or pong (RFC 6455, section 5.5).
	maxControlPayload = 125
)

// isControl reports whether frames of an opcode are control frames (RFC 6455, section 5.5).
func isControl(opcode int) bool { return opcode&0x8 != 0 }

// batches are the buffers from which frames are written. Between uses they hold only old bytes,
// which are overwritten before they are sent.
var batches = sync.Pool{New: func() any { return new([batchSize]byte) }}

// maskKey is what a client masks a frame with (RFC 6455, section 5.3).
type maskKey [maskKeySize]byte

func newMaskKey() (key maskKey) {
	rand.Read(key[:]) // never fails, see crypto/rand
	return key
}

// apply masks or unmasks b.
func (key maskKey) apply(b []byte) {
	var pattern [512]byte // a length at which the vector instructions of subtle.XORBytes pay
	for i := range pattern {
		pattern[i] = key[i%maskKeySize]
	}
	for len(b) > 0 {
		b = b[subtle.XORBytes(b, b, pattern[:]):]
	}
}

// frameHeader is what a frame's first two bytes encode.
type frameHeader struct {
	final    bool
	reserved bool // one of the reserved bits is set
	opcode   int
	masked   bool
	length7  int // the payload's length, or frameLength16 or frameLength64
	size     int // of the header, in bytes
}

func parseFrameHeader(b0, b1 byte) frameHeader {
	h := frameHeader{
		final:    b0&frameFinal != 0,
		reserved: b0&frameReserved != 0,
		opcode:   int(b0 & frameOpcode),
		masked:   b1&frameMaskBit != 0,
		length7:  int(b1 & frameLengthBits),
		size:     2,
	}
	switch h.length7 {
	case frameLength16:
		h.size += 2
	case frameLength64:
		h.size += 8
	}
	if h.masked {
		h.size += maskKeySize
	}
	return h
}

// rest reads what follows the first two bytes of a header: b begins with the whole of it. The key
// of a frame without a mask is zero, as is one that changes nothing. A length with its highest bit
// set is invalid; it is beyond any limit.
func (h frameHeader) rest(b []byte) (length uint64, key maskKey) {
	switch h.length7 {
	case frameLength16:
		length = uint64(binary.BigEndian.Uint16(b[2:]))
	case frameLength64:
		length = binary.BigEndian.Uint64(b[2:])
	default:
		length = uint64(h.length7)
	}
	if h.masked {
		copy(key[:], b[h.size-maskKeySize:])
	}
	return length, key
}

// appendFrameHeader appends the header of a frame that is a whole message of n bytes, or a control
// frame. key is nil for a server, which masks nothing.
func appendFrameHeader(b []byte, messageType, n int, key *maskKey) []byte {
	masked := byte(0)
	if key != nil {
		masked = frameMaskBit
	}
	b = append(b, byte(messageType)|frameFinal)
	switch {
	case n <= maxLength7:
		b = append(b, masked|byte(n))
	case n <= maxLength16:
		b = binary.BigEndian.AppendUint16(append(b, masked|frameLength16), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|frameLength64), uint64(n))
	}
	if key != nil {
		b = append(b, key[:]...)
	}
	return b
}

// appendFrame appends a frame that is a whole message, or a control frame.
func appendFrame(b []byte, messageType int, message []byte, masked bool) []byte {
	if !masked {
		return append(appendFrameHeader(b, messageType, len(message), nil), message...)
	}
	key := newMaskKey()
	b = append(appendFrameHeader(b, messageType, len(message), &key), message...)
	key.apply(b[len(b)-len(message):])
	return b
}
