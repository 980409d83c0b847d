package protocol

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// frame is a WebSocket frame for tests.
type frame struct {
	final   bool
	opcode  byte
	mask    *[4]byte
	payload []byte
}

var testMask = [4]byte{0x12, 0x34, 0x56, 0x78}

func (f frame) append(b []byte) []byte {
	first, maskBit := f.opcode, byte(0)
	if f.final {
		first |= 0x80
	}
	if f.mask != nil {
		maskBit = frameMaskBit
	}
	switch n := len(f.payload); {
	case n < frameLength16:
		b = append(b, first, byte(n)|maskBit)
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, frameLength16|maskBit), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, frameLength64|maskBit), uint64(n))
	}
	if f.mask == nil {
		return append(b, f.payload...)
	}
	b = append(b, f.mask[:]...)
	for i, v := range f.payload {
		b = append(b, v^f.mask[i%4])
	}
	return b
}

func wireOf(frames []frame) (b []byte) {
	for _, f := range frames {
		b = f.append(b)
	}
	return b
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// masksOf gives every frame the same kind of masking.
func masksOf(frames []frame, mask *[4]byte) []frame {
	out := make([]frame, len(frames))
	for i, f := range frames {
		f.mask = mask
		out[i] = f
	}
	return out
}

// mixedMasks masks some of the frames, as the reference's client does its pongs.
func mixedMasks(frames []frame) []frame {
	out := masksOf(frames, nil)
	for i := range out {
		if i%3 == 2 {
			out[i].mask = &testMask
		}
	}
	return out
}

// testStream holds each kind of frame: messages in one frame and in several, with control frames
// between their parts, and lengths around those at which the header changes.
func testStream() []frame {
	frames := []frame{
		{final: true, opcode: websocket.TextMessage, payload: []byte("hello")},
		{opcode: websocket.BinaryMessage, payload: pattern(3)},
		{final: true, opcode: websocket.PingMessage, payload: []byte("ping")},
		{payload: nil},
		{final: true, opcode: websocket.PongMessage},
		{final: true, payload: pattern(126)},
		{final: true, opcode: websocket.BinaryMessage},
	}
	for _, n := range []int{1, 124, 125, 126, 127, 128, 300} {
		frames = append(frames, frame{final: true, opcode: websocket.BinaryMessage,
			payload: pattern(n)})
	}
	return frames
}
