package protocol

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// The frames of the messages that this end writes are laid out here; gorilla/websocket reads them, and writes the control
// frames. gorilla copies each message into a buffer of its own, and makes a system call for each. Here a record is sealed
// where it stands in its frame, and as many as are ready leave together.

const (
	// frameFinal is the bit of a frame's first byte that says that the message ends with it (RFC 6455, section 5.2).
	frameFinal = 0x80

	// maxLength7 and maxLength16 are the longest payloads whose length takes 7 and 16 bits.
	maxLength7  = frameLength16 - 1
	maxLength16 = 1<<16 - 1
)

// batches are the buffers from which frames are written. They hold nothing between two uses but old bytes, which are
// overwritten before they are written.
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

// appendFrameHeader appends the header of a frame that is a whole message of n bytes. key is nil for a server, which masks
// nothing.
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

// appendFrame appends a frame with a message.
func appendFrame(b []byte, messageType int, message []byte, masked bool) []byte {
	if !masked {
		return append(appendFrameHeader(b, messageType, len(message), nil), message...)
	}
	key := newMaskKey()
	b = append(appendFrameHeader(b, messageType, len(message), &key), message...)
	key.apply(b[len(b)-len(message):])
	return b
}
