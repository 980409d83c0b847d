package mux

import (
	"encoding/binary"
	"strings"
	"time"
	"unicode"
)

// kind is the first byte of a frame. See the package documentation for the payloads.
type kind uint8

const (
	kindHello    kind = 0x01
	kindPing     kind = 0x02
	kindPong     kind = 0x03
	kindAck      kind = 0x04
	kindClose    kind = 0x05
	kindDraining kind = 0x46
	kindOpen     kind = 0x50
	kindOpened   kind = 0x51
	kindRefused  kind = 0x52
	kindData     kind = 0x53
	kindCredit   kind = 0x54
	kindFin      kind = 0x55
	kindReset    kind = 0x56
	kindDatagram kind = 0xa0

	optionalBit  kind = 0x80 // a receiver that does not know the kind skips the frame
	sequencedBit kind = 0x40 // the frame counts in the positions
)

const (
	headerSize    = 8
	helloSize     = 40 + 16 + proofSize + 4
	helloVersion  = 1
	helloMagic    = "culvert"
	openFixedSize = 3
	codeSize      = 2
)

// role distinguishes the two ends of a session in their hellos, so that a server that merely echoes
// is not mistaken for a culvert remote.
type role uint8

const (
	roleClient role = 1
	roleServer role = 2
)

// frame is one parsed frame. The payload aliases the record it was parsed from.
type frame struct {
	kind    kind
	stream  uint32
	payload []byte
}

// size returns the frame's length in a record.
func (f frame) size() int { return headerSize + len(f.payload) }

// parseFrame splits the first frame off a record. It is total: any bytes give a frame or a
// *ProtocolError.
func parseFrame(record []byte) (f frame, rest []byte, err error) {
	if len(record) < headerSize {
		return frame{}, nil, protocolErrorf("frame header of %d bytes", len(record))
	}
	word := binary.BigEndian.Uint32(record)
	n := int(word & 0xffffff)
	if n > len(record)-headerSize {
		return frame{}, nil, protocolErrorf("frame of %d bytes in a record with %d left",
			n, len(record)-headerSize)
	}
	end := headerSize + n
	f = frame{
		kind:    kind(word >> 24),
		stream:  binary.BigEndian.Uint32(record[4:]),
		payload: record[headerSize:end:end],
	}
	return f, record[end:], nil
}

// checkPayload returns an error when the payload's length is wrong for the frame's kind.
func (f frame) checkPayload() error {
	n, ok := len(f.payload), true
	switch f.kind {
	case kindDraining, kindOpened, kindFin:
		ok = n == 0
	case kindPing, kindPong, kindAck, kindCredit:
		ok = n == 8
	case kindReset:
		ok = n == codeSize
	case kindRefused, kindClose:
		ok = n >= codeSize && n <= codeSize+maxText
	case kindData, kindDatagram:
		ok = n > 0
	}
	if !ok {
		return protocolErrorf("frame 0x%02x with a payload of %d bytes", uint8(f.kind), n)
	}
	return nil
}

func appendHeader(b []byte, k kind, stream uint32, payloadLen int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(k)<<24|uint32(payloadLen))
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendFrame(b []byte, k kind, stream uint32, payload []byte) []byte {
	return append(appendHeader(b, k, stream, len(payload)), payload...)
}

func appendUint64Frame(b []byte, k kind, stream uint32, v uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, k, stream, 8), v)
}

// codePayload returns the payload of refused, reset and close: a code and, except for reset, a text
// for logs.
func codePayload(code Code, text string) []byte {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), strings.ToValidUTF8(text, "?")...)
}

// code reads the payload of refused, reset and close, which must have passed checkPayload.
func (f frame) code() (Code, string) {
	return Code(binary.BigEndian.Uint16(f.payload)), printable(f.payload[codeSize:])
}

// uint64 reads the payload of ping, pong, ack and credit, which must have passed checkPayload.
func (f frame) uint64() uint64 { return binary.BigEndian.Uint64(f.payload) }

// printable makes a peer's text safe for a log line and a terminal: without control characters and
// those that change the direction of the text.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}

// hello is the payload of the first frame that each side sends on a carrier.
type hello struct {
	role            role
	maxRecord       uint32 // largest record the sender accepts, bytes
	firstCredit     uint32 // what each new stream may send to the sender at first, bytes
	maxStreams      uint32 // how many streams the receiver may have open
	sendPosition    uint64 // how far the sender's sequence has come
	receivePosition uint64 // how much the sender has received: the receiver continues there
	id              sessionID
	proof           [proofSize]byte // shows that the sender is an end of the session, to resume it
	window          time.Duration   // how long the server keeps a session without a carrier, seconds
}

// sessionID names a session that can be resumed. It is no secret. All zero means none.
type sessionID [16]byte

const proofSize = 32

func appendHello(b []byte, h hello) []byte {
	b = appendHeader(b, kindHello, 0, helloSize)
	b = append(b, helloMagic...)
	b = append(b, helloVersion, byte(h.role), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.maxRecord)
	b = binary.BigEndian.AppendUint32(b, h.firstCredit)
	b = binary.BigEndian.AppendUint32(b, h.maxStreams)
	b = binary.BigEndian.AppendUint64(b, h.sendPosition)
	b = binary.BigEndian.AppendUint64(b, h.receivePosition)
	b = append(b, h.id[:]...)
	b = append(b, h.proof[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(h.window/time.Second))
}

// parseHello reads a carrier's first record. It returns ErrNotCulvert for what is not a hello, a
// *RefusedError for a server's refusal, and a *ProtocolError for an unusable one. It ignores bytes
// after the known part of the payload, for later versions.
func parseHello(record []byte, want role) (h hello, err error) {
	f, rest, err := parseFrame(record)
	if want == roleServer && err == nil && f.kind == kindClose && f.stream == 0 &&
		f.checkPayload() == nil && len(rest) == 0 {
		code, text := f.code()
		return hello{}, &RefusedError{code, text}
	}
	if err != nil || f.kind != kindHello || f.stream != 0 || len(f.payload) < helloSize ||
		string(f.payload[:len(helloMagic)]) != helloMagic {
		return hello{}, ErrNotCulvert
	}
	p := f.payload[len(helloMagic):]
	if p[0] != helloVersion {
		return hello{}, protocolErrorf("session protocol version %d, want %d", p[0], helloVersion)
	}
	h.role = role(p[1])
	if h.role != want {
		return hello{}, ErrNotCulvert
	}
	p = p[5:]
	h.maxRecord = binary.BigEndian.Uint32(p)
	h.firstCredit = binary.BigEndian.Uint32(p[4:])
	h.maxStreams = binary.BigEndian.Uint32(p[8:])
	h.sendPosition = binary.BigEndian.Uint64(p[12:])
	h.receivePosition = binary.BigEndian.Uint64(p[20:])
	p = p[28:]
	p = p[copy(h.id[:], p):]
	p = p[copy(h.proof[:], p):]
	h.window = time.Duration(binary.BigEndian.Uint32(p)) * time.Second
	switch {
	case h.maxRecord < minRecordSize:
		return hello{}, protocolErrorf("largest record of %d bytes, at least %d needed",
			h.maxRecord, minRecordSize)
	case len(rest) > 0:
		return hello{}, protocolErrorf("%d bytes after the hello", len(rest))
	}
	return h, nil
}

// StreamKind is what a stream's target is.
type StreamKind uint8

const (
	// StreamTCP is joined to a TCP connection. Its target is host:port.
	StreamTCP StreamKind = 1

	// StreamUDP is a Flow. Its target is the host:port of all datagrams, or empty when each carries
	// its own address. One that the remote opens belongs to a client of a UDP port that it has
	// bound; its target is like that of a StreamReverse.
	StreamUDP StreamKind = 2

	// StreamUnix is joined to a connection to a unix socket. Its target is the socket's absolute
	// path.
	StreamUnix StreamKind = 3

	// StreamListen makes the remote listen for the stream's opener. Its target is the address to
	// bind: "tcp:" or "udp:" and host:port, or "unix:" and an absolute path. The remote writes the
	// address that it has bound and a line feed. It accepts connections, or datagrams, once the
	// opener has answered with a byte, and closes the listener when the stream ends.
	StreamListen StreamKind = 4

	// StreamReverse is a connection that a listener of the remote has accepted; the remote opens
	// it. Its target is the id of the listener's stream in decimal, a space, and the address of the
	// connection's peer.
	StreamReverse StreamKind = 5

	// StreamService is served by the remote itself. Its target is the name of a service.
	StreamService StreamKind = 6
)

// Target is where a stream leads. The session does not interpret it, except that StreamUDP is for
// flows.
type Target struct {
	Kind    StreamKind
	Address string // at most 512 bytes
}

func openPayload(t Target, first []byte) []byte {
	b := make([]byte, 0, openFixedSize+len(t.Address)+len(first))
	b = append(b, byte(t.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Address)))
	b = append(b, t.Address...)
	return append(b, first...)
}

// parseOpen reads the payload of an open frame. first aliases it.
func parseOpen(payload []byte) (t Target, first []byte, err error) {
	if len(payload) < openFixedSize {
		return Target{}, nil, protocolErrorf("open with a payload of %d bytes", len(payload))
	}
	n := int(binary.BigEndian.Uint16(payload[1:]))
	rest := payload[openFixedSize:]
	if n > maxTarget || n > len(rest) {
		return Target{}, nil, protocolErrorf("open with a target of %d bytes", n)
	}
	return Target{Kind: StreamKind(payload[0]), Address: string(rest[:n])}, rest[n:], nil
}
