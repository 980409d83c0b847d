package socks

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
)

var (
	errHeadTooLarge = errors.New("the request's head is too large")
	errControl      = errors.New("control character in the request's head")
	errFold         = errors.New("folded field in the request's head")
	errFieldName    = errors.New("malformed field name in the request's head")
)

// field is one field of a head. It aliases the head.
type field struct {
	raw   []byte // its line, or lines when it is folded, with their ends
	name  []byte // what precedes the colon, without white space at its end
	value []byte // what follows the colon, without white space around it
	colon bool   // there is one
}

// linearSpace is what surrounds a value, line ends included: a value may be folded.
const linearSpace = " \t\r\n"

// nextLine cuts a line, with its end, from b.
func nextLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n') + 1
	if i == 0 {
		i = len(b)
	}
	return b[:i], b[i:]
}

// content returns a line without its end.
func content(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// nextField cuts a field from the lines of a head, and reports whether there was one: it is
// false at the empty line, which it leaves in rest.
func nextField(b []byte) (f field, rest []byte, ok bool) {
	line, rest := nextLine(b)
	if len(content(line)) == 0 {
		return field{}, b, false
	}
	for len(rest) > 0 && isBlank(rest[0]) {
		more, after := nextLine(rest)
		line, rest = b[:len(line)+len(more)], after
	}
	name, value, colon := bytes.Cut(line, []byte(":"))
	f = field{raw: line, colon: colon}
	if colon {
		f.name = bytes.TrimRight(name, linearSpace)
		f.value = bytes.Trim(value, linearSpace)
	}
	return f, rest, true
}

// is reports whether the field has this name, which is in lower case.
func (f field) is(name string) bool { return equalFold(f.name, name) }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isControl reports whether c has no place in a line (RFC 9110 section 5.5).
func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// equalFold reports whether b is s, which is in lower case, in any case of ASCII.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != s[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// list yields the elements of a value that is a list (RFC 9110 section 5.6.1).
func list(value []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for item := range bytes.SplitSeq(value, []byte(",")) {
			if item = bytes.Trim(item, linearSpace); len(item) > 0 && !yield(item) {
				return
			}
		}
	}
}

// isToken reports whether b can be a method, or the name of a field (RFC 9110 section 5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		if !isTokenByte(c) {
			return false
		}
	}
	return len(b) > 0
}

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c != 0 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

// hopByHop are the fields for the next hop alone, whether or not Connection lists them (RFC
// 9110 section 7.6.1), and those of a proxy's own authentication. Transfer-Encoding and
// Trailer belong to the body, whose framing is passed on.
var hopByHop = []string{
	"connection", "keep-alive", "proxy-connection", "te", "upgrade",
	"proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
}

// neverListed are the fields that no Connection takes out: without them the message would be
// another one.
var neverListed = []string{"content-length", "transfer-encoding", "host"}

// forProxy reports whether the field is one that a client has only for a proxy.
func (f field) forProxy() bool { return len(f.name) > 6 && equalFold(f.name[:6], "proxy-") }

// isOneOf reports whether the field has one of these names.
func (f field) isOneOf(names []string) bool {
	for _, name := range names {
		if f.is(name) {
			return true
		}
	}
	return false
}

// connectionField is what the Connection fields of a head say.
type connectionField struct {
	close, upgrade, te bool
	listed             map[string]struct{} // other names, in lower case
}

// add reads one of the fields.
func (c *connectionField) add(value []byte) {
	for item := range list(value) {
		switch {
		case equalFold(item, "close"):
			c.close = true
		case equalFold(item, "keep-alive"):
			// the default, and the field of that name is hop-by-hop
		case equalFold(item, "upgrade"):
			c.upgrade = true
		case equalFold(item, "te"):
			c.te = true
		default:
			if c.listed == nil {
				c.listed = make(map[string]struct{})
			}
			c.listed[string(bytes.ToLower(item))] = struct{}{}
		}
	}
}

// lists reports whether the field is listed as one for this hop alone.
func (c *connectionField) lists(f field) bool {
	if len(c.listed) == 0 {
		return false
	}
	_, listed := c.listed[string(bytes.ToLower(f.name))]
	return listed && !f.isOneOf(neverListed)
}

// peekHead waits until a head is buffered as a whole in *in and returns its length, which
// includes what precedes its first line and the empty line at its end; it consumes nothing.
// The buffer, which src fills, is replaced by larger ones for a head that it can't hold.
func peekHead(in **bufio.Reader, src io.Reader, limit int) (int, error) {
	searched := 0
	for {
		b, _ := (*in).Peek((*in).Buffered())
		if n := headLength(b, searched); n > 0 {
			return n, nil
		}
		searched = max(len(b)-2, 0)
		switch {
		case len(b) >= limit:
			return 0, errHeadTooLarge
		case len(b) == (*in).Size():
			larger := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(b)), src),
				min(4*len(b), limit))
			putReader(*in)
			*in = larger
		}
		if _, err := (*in).Peek(len(b) + 1); err != nil {
			return 0, err
		}
	}
}

// headLength returns the length of the head that b begins with, or 0 when it is not complete.
// The first bytes of b, up to from, hold no end of it. A line may end without a carriage
// return, and maxLineEnds bytes of line ends may precede the first line.
func headLength(b []byte, from int) int {
	first := b[:min(len(b), maxLineEnds)]
	from = max(from, len(first)-len(bytes.TrimLeft(first, "\r\n")))
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch rest := b[from:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return from + 1
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return from + 2
		}
	}
}

// putReader gives a read buffer back, unless it is one of another size.
func putReader(in *bufio.Reader) {
	if in.Size() == readBufferSize {
		in.Reset(nil)
		readers.Put(in)
	}
}
