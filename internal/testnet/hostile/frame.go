package hostile

import (
	"bytes"
	"encoding/binary"
	"math"

	"culvert/tunnel/mux"
)

// Kinds of frames.
const (
	KindPing     = 0x02
	KindPong     = 0x03
	KindAck      = 0x04
	KindClose    = 0x05
	KindDraining = 0x46
	KindOpen     = 0x50
	KindOpened   = 0x51
	KindRefused  = 0x52
	KindData     = 0x53
	KindCredit   = 0x54
	KindFin      = 0x55
	KindReset    = 0x56
	KindDatagram = 0xa0

	headerSize   = 8
	sequencedBit = 0x40
)

// Frame returns a frame's bytes.
func Frame(kind byte, stream uint32, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// Number returns a frame whose payload is a number.
func Number(kind byte, stream uint32, v uint64) []byte {
	return Frame(kind, stream, binary.BigEndian.AppendUint64(nil, v)...)
}

// Open returns an open frame.
func Open(stream uint32, kind mux.StreamKind, target string) []byte {
	p := binary.BigEndian.AppendUint16([]byte{byte(kind)}, uint16(len(target)))
	return Frame(KindOpen, stream, append(p, target...)...)
}

// Reset returns a reset frame.
func Reset(stream uint32) []byte { return Frame(KindReset, stream, 0, byte(mux.CodeAborted)) }

// Hello returns the first frame of an end, which gives each new stream some credit. That of a
// remote offers to resume the session.
func Hello(ofRemote bool, firstCredit uint32) []byte {
	p := append([]byte("culvert"), 1, 1, 0, 0, 0)
	p = binary.BigEndian.AppendUint32(p, mux.MaxRecordSize)
	p = binary.BigEndian.AppendUint32(p, firstCredit)
	p = binary.BigEndian.AppendUint32(p, math.MaxUint32) // streams of the other end
	p = append(p, make([]byte, 8+8+16+32+4)...)
	if ofRemote {
		p[8], p[len("culvert")+5+12+16] = 2, 1
	}
	return Frame(0x01, 0, p...)
}

// Repeatable returns the frame numbered n of a sequence of frames that any end may repeat.
func Repeatable(n uint32) []byte {
	switch n % 5 {
	case 0:
		return Number(KindPing, 0, uint64(n))
	case 1:
		return Number(KindAck, 0, 0)
	case 2:
		return Frame(KindDraining, 0)
	case 3:
		return Frame(KindDatagram, 1, 0, 'x') // there is no such flow
	}
	return Frame(0x81, 0, 'x') // unknown, to be skipped
}

// Malformed returns records of a client, by what is wrong with them: at least one for each kind of
// frame. Streams that they open lead to target.
func Malformed(target string) map[string][]byte {
	stream := Open(1, mux.StreamTCP, target)
	flow := Open(1, mux.StreamUDP, "127.0.0.1:9")
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	long := make([]byte, 32<<10)
	return map[string][]byte{
		"short header":            Frame(KindPing, 0)[:5],
		"long payload":            {KindPing, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"second hello":            Hello(false, 0),
		"unknown kind":            Frame(0x10, 0),
		"unknown sequenced kind":  Frame(0x5f, 0),
		"short ping":              Frame(KindPing, 0, 1),
		"ping on a stream":        join(stream, Number(KindPing, 1, 1)),
		"long pong":               Frame(KindPong, 0, long[:9]...),
		"pong without a ping":     Number(KindPong, 0, 1<<40),
		"empty ack":               Frame(KindAck, 0),
		"ack of too much":         Number(KindAck, 0, 1<<40),
		"short close":             Frame(KindClose, 0, 1),
		"long close":              Frame(KindClose, 0, long[:259]...),
		"draining with more":      Frame(KindDraining, 0, 1),
		"draining on a stream":    join(stream, Frame(KindDraining, 1)),
		"short open":              Frame(KindOpen, 1, 1, 0),
		"open with half a target": Frame(KindOpen, 1, 1, 0, 9, 'x'),
		"open with a long target": Open(1, mux.StreamTCP, string(long[:513])),
		"open of 0":               Open(0, mux.StreamTCP, ""),
		"open of an even id":      Open(2, mux.StreamTCP, ""),
		"second open":             join(stream, stream),
		"open with a flow's data": Frame(KindOpen, 1, byte(mux.StreamUDP), 0, 0, 'x'),
		"opened with more":        join(stream, Frame(KindOpened, 1, 1)),
		"opened by the opener":    join(stream, Frame(KindOpened, 1)),
		"opened without an open":  Frame(KindOpened, 2),
		"short refusal":           join(stream, Frame(KindRefused, 1, 1)),
		"refused by the opener":   join(stream, Frame(KindRefused, 1, 0, 1)),
		"empty data":              join(stream, Frame(KindData, 1)),
		"data without an open":    Frame(KindData, 1, 1),
		"data after the end":      join(stream, Frame(KindFin, 1), Frame(KindData, 1, 1)),
		"data on a flow":          join(flow, Frame(KindData, 1, 1)),
		"short credit":            join(stream, Frame(KindCredit, 1, long[:7]...)),
		"credit without an open":  Number(KindCredit, 1, 1),
		"fin with more":           join(stream, Frame(KindFin, 1, 1)),
		"second fin":              join(stream, Frame(KindFin, 1), Frame(KindFin, 1)),
		"fin without an open":     Frame(KindFin, 3),
		"short reset":             join(stream, Frame(KindReset, 1, 1)),
		"reset without an open":   Reset(1),
		"empty datagram":          join(flow, Frame(KindDatagram, 1)),
		"datagram on 0":           Frame(KindDatagram, 0, 0, 1),
		"datagram with flags":     join(flow, Frame(KindDatagram, 1, 4, 1)),
		"datagram on a stream":    join(stream, Frame(KindDatagram, 1, 0, 1)),
	}
}
