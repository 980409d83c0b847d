package protocol

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// Bits of the second byte of a frame (RFC 6455, section 5.2).
const (
	frameMaskBit    = 0x80
	frameLengthBits = 0x7f

	frameLength16 = 126 // a 16-bit length follows
	frameLength64 = 127 // a 64-bit length follows

	maskKeySize    = 4
	maxFrameHeader = 2 + 8 + maskKeySize
)

// acceptUnmasked wraps a server's connection, right after the HTTP request, so that gorilla/websocket accepts a client
// that does not mask its frames.
//
// RFC 6455, section 5.1, has a server close such a connection, and gorilla does. The reference's client on Node sends
// all of its data frames unmasked, though its close and pong frames are masked. Masking is there to keep a browser's
// page from writing chosen bytes to a proxy; a Node program can write them anyway, so nothing is lost.
//
// A wrapped connection looks at the first frame. When it is masked, all later reads go to the connection directly.
// Otherwise each header without a mask gets a mask key of zeros, which changes no byte of the payload.
func acceptUnmasked(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &unmaskedTCP{TCPConn: tcp}
	}
	return &unmaskedConn{Conn: conn}
}

// unmaskedTCP embeds the concrete type: net.Buffers writes with one system call only to a connection of package net,
// and socket options and CloseWrite stay in reach.
type unmaskedTCP struct {
	*net.TCPConn
	frames unmasker
}

func (c *unmaskedTCP) Read(p []byte) (int, error) {
	if c.frames.mode == framesMasked {
		return c.TCPConn.Read(p)
	}
	return c.frames.read(c.TCPConn, p)
}

// WriteTo hides the embedded method, which would read past the unmasker.
func (c *unmaskedTCP) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, onlyReader{c}) }

// NetConn returns the wrapped connection, for its socket options. Reading from it loses frames.
func (c *unmaskedTCP) NetConn() net.Conn { return c.TCPConn }

// unmaskedConn does the same for other connections, TLS and Unix sockets.
type unmaskedConn struct {
	net.Conn
	frames unmasker
}

func (c *unmaskedConn) Read(p []byte) (int, error) {
	if c.frames.mode == framesMasked {
		return c.Conn.Read(p)
	}
	return c.frames.read(c.Conn, p)
}

// CloseWrite half-closes the wrapped connection if it can.
func (c *unmaskedConn) CloseWrite() error { return closeWrite(c.Conn) }

// NetConn returns the wrapped connection. Reading from it loses frames.
func (c *unmaskedConn) NetConn() net.Conn { return c.Conn }

// onlyReader hides everything but Read.
type onlyReader struct{ io.Reader }

// closeWrite half-closes conn if its type can.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// frameMode is what the first frame's header said.
type frameMode int

const (
	framesUndecided frameMode = iota
	framesPassing             // masked, with something left in raw
	framesMasked              // masked, and nothing between the reader and the connection
	framesUnmasked            // rewritten
)

// unmasker rewrites a stream of frames, whatever the sizes of the reads. The zero value is ready.
type unmasker struct {
	mode frameMode

	raw    []byte // read from the connection and not looked at yet
	rawBuf []byte // raw's backing array, unmaskReadSize
	err    error  // of the connection; returned after raw is used up

	header  [maxFrameHeader]byte // of the frame that is being read
	have    int                  // how much of header has arrived
	out     []byte               // of header, with the mask key, still to be returned
	payload uint64               // bytes of the frame that follow out
}

// read fills p with as much of the rewritten stream as is there, and blocks only while there is nothing.
func (u *unmasker) read(conn io.Reader, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if u.mode == framesUndecided {
		if n, done, err := u.decide(conn, p); done {
			return n, err
		}
	}
	if u.mode == framesPassing {
		if n := copy(p, u.raw); n > 0 {
			u.raw = u.raw[n:]
			return n, nil
		}
		u.mode, u.raw, u.rawBuf = framesMasked, nil, nil
		if u.err != nil {
			return 0, u.err
		}
		return conn.Read(p)
	}
	for {
		if n := u.rewrite(p); n > 0 {
			return n, nil
		}
		// raw is used up. A payload goes to p directly when p is no smaller than the buffer.
		if u.err != nil {
			return 0, u.err
		}
		if u.payload > 0 && len(p) >= unmaskReadSize {
			n, err := conn.Read(p[:min(uint64(len(p)), u.payload)])
			u.payload -= uint64(n)
			return n, err
		}
		u.fill(conn)
	}
}

// decide looks at the first frame's first two bytes. It returns done when its result is read's.
func (u *unmasker) decide(conn io.Reader, p []byte) (n int, done bool, err error) {
	if u.rawBuf == nil && len(p) >= 2 {
		// The usual case: a large enough read, which shows a masked frame and is left as it is.
		n, err = conn.Read(p)
		if n == 0 && err == nil {
			return 0, true, nil
		}
		if n >= 2 && p[1]&frameMaskBit != 0 {
			u.mode = framesMasked
			return n, true, err
		}
		u.err = err
		u.rawBuf = make([]byte, max(n, unmaskReadSize))
		u.raw = u.rawBuf[:copy(u.rawBuf, p[:n])]
	}
	for len(u.raw) < 2 && u.err == nil {
		u.fill(conn)
	}
	switch {
	case len(u.raw) < 2 || u.raw[1]&frameMaskBit != 0:
		u.mode = framesPassing
	default:
		u.mode = framesUnmasked
	}
	return 0, false, nil
}

// fill reads what fits behind raw.
func (u *unmasker) fill(conn io.Reader) {
	if u.rawBuf == nil {
		u.rawBuf = make([]byte, unmaskReadSize)
	}
	kept := copy(u.rawBuf, u.raw)
	n, err := conn.Read(u.rawBuf[kept:])
	u.raw, u.err = u.rawBuf[:kept+n], err
}

// rewrite moves bytes from raw to p until one of them is used up, and returns how many bytes p got.
func (u *unmasker) rewrite(p []byte) int {
	total := 0
	for total < len(p) {
		switch {
		case len(u.out) > 0:
			n := copy(p[total:], u.out)
			u.out = u.out[n:]
			total += n
		case u.payload > 0:
			n := copy(p[total:], u.raw[:min(u.payload, uint64(len(u.raw)))])
			if n == 0 {
				return total
			}
			u.raw = u.raw[n:]
			u.payload -= uint64(n)
			total += n
		default:
			if !u.readHeader() {
				return total
			}
		}
	}
	return total
}

// readHeader takes a header from raw. It reports whether the header is complete, and then out and payload are set.
func (u *unmasker) readHeader() bool {
	for {
		size := u.headerSize()
		if u.have == size {
			break
		}
		n := copy(u.header[u.have:size], u.raw)
		if n == 0 {
			return false
		}
		u.have += n
		u.raw = u.raw[n:]
	}
	size := u.have
	u.have = 0
	switch length := u.header[1] & frameLengthBits; length {
	case frameLength16:
		u.payload = uint64(binary.BigEndian.Uint16(u.header[2:]))
	case frameLength64:
		// With the highest bit set the length is invalid; gorilla sees the same header and ends the connection.
		u.payload = binary.BigEndian.Uint64(u.header[2:])
	default:
		u.payload = uint64(length)
	}
	if u.header[1]&frameMaskBit == 0 {
		u.header[1] |= frameMaskBit
		clear(u.header[size : size+maskKeySize])
		size += maskKeySize
	}
	u.out = u.header[:size]
	return true
}

// headerSize returns the size of the header that is being read, as far as its first bytes tell: 2 until both have
// arrived.
func (u *unmasker) headerSize() int {
	size := 2
	if u.have < size {
		return size
	}
	switch u.header[1] & frameLengthBits {
	case frameLength16:
		size += 2
	case frameLength64:
		size += 8
	}
	if u.header[1]&frameMaskBit != 0 {
		size += maskKeySize
	}
	return size
}
