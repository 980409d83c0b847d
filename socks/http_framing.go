package socks

import (
	"errors"
	"math"
)

// framing is how a body ends (RFC 9112 section 6.3), and how much of it is still to come. Its
// zero value is that of a message without a body.
type framing struct {
	kind   framingKind
	left   int64 // of framedByLength
	chunks chunks
}

type framingKind uint8

const (
	noBody framingKind = iota
	framedByLength
	framedByChunks
	framedByClose // what comes until the connection ends
)

// done reports whether all of the body has come.
func (f *framing) done() bool {
	switch f.kind {
	case framedByLength:
		return f.left == 0
	case framedByChunks:
		return f.chunks.state == chunksDone
	}
	return f.kind == noBody
}

// advance consumes what b has of the body, n bytes. The data is what the body holds, without
// its framing: with decode set it is gathered at the beginning of b, else it is nil. After an
// error the body is malformed behind those n bytes.
func (f *framing) advance(b []byte, decode bool) (n int, data []byte, err error) {
	switch f.kind {
	case framedByChunks:
		return f.chunks.scan(b, decode)
	case framedByLength:
		n = int(min(int64(len(b)), f.left))
		f.left -= int64(n)
	case framedByClose:
		n = len(b)
	}
	if decode {
		data = b[:n]
	}
	return n, data, nil
}

// plain returns how many of the next bytes are data, whatever they are.
func (f *framing) plain() int64 {
	switch f.kind {
	case framedByLength:
		return f.left
	case framedByChunks:
		if f.chunks.state == chunkData {
			return f.chunks.left
		}
	case framedByClose:
		return math.MaxInt64
	}
	return 0
}

// skip counts n bytes of data, at most plain.
func (f *framing) skip(n int) {
	switch f.kind {
	case framedByLength:
		f.left -= int64(n)
	case framedByChunks:
		f.chunks.skip(n)
	}
}

// chunks scans a chunked body (RFC 9112 section 7.1), which is passed on as it is.
//
// A strict scan is for requests: what others might read in another way is malformed. The other
// one is as lenient as browsers, but with promised set it passes nothing by which a client might
// find an earlier end, and adds carriage returns: the client would take what follows its end for
// the response to its next request, which may be for another server.
type chunks struct {
	strict   bool
	promised bool // the client was told that its connection goes on
	lacksCR  bool // what comes next is a line feed without its carriage return, which goes ahead
	lenient  bool // something was passed that a strict scan refuses
	state    chunkState
	left     int64 // data of the chunk that is still to come; in its first line, its size so far
	digits   int   // of the size, leading zeros apart
	line     int   // length of the line so far, without its end
	trailer  int   // length of the trailer section so far
	name     []byte
}

type chunkState uint8

const (
	chunkSize      chunkState = iota
	chunkPadding              // behind a size and blanks
	chunkExtension            // behind a size and its semicolon
	chunkSizeLF               // behind the carriage return of the first line
	chunkData
	chunkDataCR
	chunkDataLF
	trailerName // at the beginning of a line, or in a name
	trailerValue
	trailerLF    // behind the carriage return of a trailer's line
	trailerEndLF // behind that of the last line
	chunksDone
	chunksBad // malformed from here on
)

var errChunk = errors.New("malformed chunk")

// scan is framing.advance. It ends early with lacksCR set, which the caller clears, never with
// decode.
func (c *chunks) scan(b []byte, decode bool) (n int, data []byte, err error) {
	if decode {
		data = b[:0]
	}
	for n < len(b) && c.state != chunksDone {
		if c.state == chunkData {
			size := int(min(int64(len(b)-n), c.left))
			if decode {
				data = append(data, b[n:n+size]...) // what was there is consumed
			}
			c.skip(size)
			n += size
			continue
		}
		if c.promised && b[n] == '\n' && c.endsInLF() {
			c.lacksCR, c.lenient = true, true
			return n, data, nil
		}
		if !c.step(b[n]) {
			c.state = chunksBad
			return n, data, errChunk
		}
		n++
	}
	return n, data, nil
}

func (c *chunks) skip(n int) {
	if c.left -= int64(n); c.left == 0 {
		c.state = chunkDataCR
	}
}

// step takes a byte that is no data, and reports whether it may be there.
func (c *chunks) step(b byte) bool {
	if c.line++; c.line > maxChunkLine {
		return false
	}
	switch c.state {
	case chunkSize:
		return c.stepSize(b)
	case chunkPadding, chunkExtension:
		return c.stepExtension(b)
	case chunkSizeLF:
		return b == '\n' && c.endSize()
	case chunkDataCR:
		if b == '\r' {
			c.state = chunkDataLF
			return true
		}
		return b == '\n' && c.bend() && c.endData()
	case chunkDataLF:
		return b == '\n' && c.endData()
	}
	return c.stepTrailer(b)
}

// bend notes that something needs leniency, and reports whether it has that.
func (c *chunks) bend() bool {
	c.lenient = true
	return !c.strict
}

// diverge is bend for what some clients read as another size, and so may find an earlier end by.
func (c *chunks) diverge() bool { return c.bend() && !c.promised }

// endsInLF reports whether a line feed alone would end a size or a chunk's data, and goes on to
// where the carriage return has come. Without that, some clients would read on up to one, and
// Python, which skips two bytes behind the data, would take "\n10" for the last chunk.
func (c *chunks) endsInLF() bool {
	switch {
	case c.state == chunkSize && c.line > 0, c.state == chunkPadding, c.state == chunkExtension:
		c.state = chunkSizeLF
	case c.state == chunkDataCR:
		c.state = chunkDataLF
	default:
		return false
	}
	return true
}

func (c *chunks) stepSize(b byte) bool {
	digit, ok := hexDigit(b)
	if !ok {
		if c.line == 1 {
			return false // there is no size
		}
		return c.stepExtension(b)
	}
	if c.left > 0 || digit > 0 {
		c.digits++
	}
	if c.digits > 15 { // no more fit into 63 bits
		return false
	}
	c.left = c.left<<4 | digit
	// Servers differ in how many leading zeros they read; net/http reads 16 digits in all.
	return c.line <= 16 || c.bend()
}

func hexDigit(b byte) (int64, bool) {
	switch {
	case '0' <= b && b <= '9':
		return int64(b - '0'), true
	case 'a' <= lower(b) && lower(b) <= 'f':
		return int64(lower(b)-'a') + 10, true
	}
	return 0, false
}

// stepExtension takes what follows a size. An extension begins with a semicolon; some servers
// pad the size with spaces. Clients differ in what else they read: Python's size of "5_0" is 80.
func (c *chunks) stepExtension(b byte) bool {
	begins := c.state != chunkExtension
	if begins && isBlank(b) {
		c.state = chunkPadding
		return c.bend()
	}
	c.state = chunkExtension
	switch {
	case b == '\r':
		c.state = chunkSizeLF
		return true
	case b == '\n':
		return c.bend() && c.endSize()
	case begins && b != ';', isControl(b):
		return c.diverge()
	}
	return true
}

// endSize ends a chunk's first line.
func (c *chunks) endSize() bool {
	c.line, c.digits = 0, 0
	c.state = chunkData
	if c.left == 0 {
		c.state = trailerName
	}
	return true
}

func (c *chunks) endData() bool {
	c.line, c.state = 0, chunkSize
	return true
}

// stepTrailer takes a byte of the trailer section, which is a head's fields. It refuses controls
// for responses too: Firefox ends the section at a line that begins with NUL.
func (c *chunks) stepTrailer(b byte) bool {
	if c.trailer++; c.trailer > maxTrailer {
		return false
	}
	switch c.state {
	case trailerName:
		switch {
		case b == '\r' && c.line == 1:
			c.state = trailerEndLF
			return true
		case b == '\r':
			c.state = trailerLF
			return c.bend()
		case b == '\n' && c.line == 1:
			c.state = chunksDone
			return c.bend()
		case b == ':':
			c.state = trailerValue
			return c.mayTrail()
		case isTokenByte(b):
			if len(c.name) < maxTrailerName {
				c.name = append(c.name, lower(b))
			}
			return true
		case b == '\n':
			return c.bend() && c.endTrailer()
		}
		return !isControl(b) && c.bend()
	case trailerValue:
		switch b {
		case '\r':
			c.state = trailerLF
			return true
		case '\n':
			return c.bend() && c.endTrailer()
		}
		return !isControl(b)
	case trailerLF:
		return b == '\n' && c.endTrailer()
	case trailerEndLF:
		c.state = chunksDone
		return b == '\n'
	}
	return false
}

func (c *chunks) endTrailer() bool {
	c.line, c.name, c.state = 0, c.name[:0], trailerName
	return true
}

// mayTrail reports whether a trailer may have the name that has come: none that frames or
// routes a message, or belongs to this hop (RFC 9110 section 6.5.1), since a target might take
// it for one of the head.
func (c *chunks) mayTrail() bool {
	f := field{name: c.name}
	if len(c.name) > 0 && !f.forProxy() && !f.isOneOf(hopByHop) &&
		!f.isOneOf(neverListed) && !f.is("trailer") {
		return true
	}
	return c.bend()
}
