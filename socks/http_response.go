package socks

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"culvert/internal/bounds"
)

// response is what a proxy has to know of a response. It may alias its head.
type response struct {
	status  int
	http11  bool // else the connection ends after it
	close   bool // the target says so
	lenient bool // it was read as browsers would, so others may read something else
	body    framing

	line       []byte // the status line, as the client gets it
	fields     []byte // the lines behind it
	connection connectionField
	length     int64 // of Content-Length; -1 when there is none that is a number
	lengths    int   // how often there is a Content-Length, in one field or in several
	noNumber   bool  // one of them is no number
	listed     bool  // a field of them is a list, if only of one, or no number
	differ     bool
	codings    codings
}

// codings are the transfer codings of a response.
type codings struct {
	fields  int  // Transfer-Encoding fields
	chunked int  // times that chunked is named
	others  bool // there are codings besides that and identity
	last    bool // the last one is chunked
	listed  bool // a field is a list, if only of one
}

var (
	errNoStatusLine = errors.New("the response begins with no status line")
	errManyFields   = &bounds.Error{
		Bound: bounds.HTTPTargetFields, Err: errors.New("the response has too many fields"),
	}
	errLengths = errors.New("the response has several lengths")
)

// parseResponse reads a head as leniently as browsers do. The method is that of the request.
func parseResponse(head []byte, method string) (*response, error) {
	r := &response{length: -1}
	if !r.parseLine(head) {
		return nil, errNoStatusLine
	}
	n := 0
	f, rest, ok := nextField(r.fields)
	for ; ok; f, rest, ok = nextField(rest) {
		if n++; n > maxTargetFields {
			return nil, errManyFields
		}
		r.parseField(f)
	}
	if r.codings.none() && (r.differ || r.noNumber && r.length >= 0) {
		return nil, errLengths
	}
	r.frame(method)
	r.close = r.connection.close || !r.http11
	return r, nil
}

// parseLine finds the status line and reads it.
func (r *response) parseLine(head []byte) bool {
	line := bytes.TrimLeft(head, "\r\n")
	r.lenient = len(line) != len(head)
	for range statusLineSlop {
		if startsStatus(line) || len(line) == 0 {
			break
		}
		line, r.lenient = line[1:], true
	}
	if !startsStatus(line) {
		return false
	}
	line, changed := spaced(line)
	r.line, r.fields = nextLine(line)
	r.lenient = !r.readLine() || changed || r.lenient
	for len(r.fields) > 0 && isBlank(r.fields[0]) { // RFC 9112 section 2.2
		_, r.fields = nextLine(r.fields)
		r.lenient = true
	}
	return true
}

// spaced returns a head in which carriage returns alone and NULs are spaces (RFC 9112 section 2.2,
// RFC 9110 section 5.5), since some clients end a line there. It leaves b as it is, and reports
// whether there were any.
func spaced(b []byte) (head []byte, changed bool) {
	if bytes.IndexByte(b, 0) < 0 && bytes.Count(b, []byte("\r")) == bytes.Count(b, []byte("\r\n")) {
		return b, false
	}
	head = bytes.Clone(b)
	for i, c := range b {
		if c == 0 || c == '\r' && !bytes.HasPrefix(b[i:], []byte("\r\n")) {
			head[i] = ' '
		}
	}
	return head, true
}

// readLine reads the status line, and reports whether it is as RFC 9112 has it. One in which
// clients might find another status is replaced. Python reads 0100 as 100, which is interim, and
// would take what follows the head for another one.
func (r *response) readLine() (strict bool) {
	text := content(r.line)
	version, rest, _ := bytes.Cut(text, []byte(" "))
	r.http11 = bytes.Equal(version, []byte("HTTP/1.1"))
	rest = bytes.TrimLeft(rest, " ")
	digits := len(rest) - len(bytes.TrimLeft(rest, "0123456789"))
	r.status = http.StatusOK // as browsers do
	if digits == 3 && rest[0] != '0' {
		r.status, _ = strconv.Atoi(string(rest[:digits]))
		if isVersion(version) && (len(rest) == 3 || rest[3] == ' ') {
			return len(text) > 12 && (r.http11 || bytes.Equal(version, []byte("HTTP/1.0"))) &&
				text[9] == rest[0] && text[12] == ' ' && isStrict(r.line)
		}
	}
	r.line = fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", r.status, http.StatusText(r.status))
	return false
}

// isVersion reports whether b is a version of HTTP, in any case, or what stands for it in a radio
// server's status line.
func isVersion(b []byte) bool {
	return equalFold(b, "icy") || len(b) == 8 && equalFold(b[:5], "http/") &&
		isDigit(b[5]) && b[6] == '.' && isDigit(b[7])
}

// startsStatus reports whether a status line begins here. ICY is an old kind of radio server's.
func startsStatus(b []byte) bool {
	return len(b) >= 4 && (equalFold(b[:4], "http") || equalFold(b[:4], "icy "))
}

// isStrict reports whether a line, with its end, is one that all read in the same way.
func isStrict(line []byte) bool {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	return ok && !bytes.ContainsFunc(text, isControlRune)
}

// parseField reads a field.
func (r *response) parseField(f field) {
	strict := f.colon && isToken(f.name) && f.raw[len(f.name)] == ':' && isStrict(f.raw)
	r.lenient = r.lenient || !strict
	switch {
	case f.is("content-length"):
		r.addLength(f.value)
	case f.is("transfer-encoding"):
		r.codings.add(f.value)
	case f.is("connection"):
		r.connection.add(f.value)
	}
}

// addLength reads a Content-Length field, which may repeat a length.
func (r *response) addLength(value []byte) {
	n := 0
	for item := range list(value) {
		n++
		length, ok := parseLength(item)
		switch {
		case !ok:
			r.noNumber = true
		case r.length >= 0 && length != r.length:
			r.differ = true
		default:
			r.length = length
		}
	}
	r.noNumber = r.noNumber || n == 0
	r.lengths += max(n, 1)
	_, single := parseLength(value)
	r.listed = r.listed || !single
	r.lenient = r.lenient || r.listed || r.lengths > 1
}

// add reads a Transfer-Encoding field.
func (c *codings) add(value []byte) {
	c.fields++
	for item := range list(value) {
		switch {
		case equalFold(item, "identity"): // RFC 2616; it is no coding
		case equalFold(item, "chunked"):
			c.chunked++
			c.last = true
		default:
			c.others, c.last = true, false
		}
	}
	c.listed = c.listed || !equalFold(value, "chunked")
}

// none reports whether the body has no coding, as far as the fields say.
func (c *codings) none() bool { return c.chunked == 0 && !c.others }

// frame settles how the body is framed (RFC 9112 section 6.3).
func (r *response) frame(method string) {
	if r.codings.fields > 0 {
		r.lenient = r.lenient || r.lengths != 0 || r.codings.fields > 1 || r.codings.listed ||
			!r.http11
	}
	empty := r.status < 200 || r.status == http.StatusNoContent
	if empty || r.status == http.StatusResetContent { // which has a body for some clients only
		r.lenient = r.lenient || r.codings.fields > 0 || r.length > 0
	}
	switch {
	case empty:
	case method == http.MethodHead, r.status == http.StatusNotModified:
	case r.codings.last:
		r.body.kind = framedByChunks
	case !r.codings.none():
		r.body.kind = framedByClose
	case r.length < 0:
		r.body.kind = framedByClose
	default:
		r.body = framing{kind: framedByLength, left: r.length}
	}
}

// appendHead appends the head as the client gets it: as it came, but for what belongs to the
// connection, and for a framing that clients might read in different ways. With decode set
// the body's chunks are taken out.
//
// The Connection field comes first, since Python sees no field behind a line that is none, and
// takes the first of several.
func (r *response) appendHead(b []byte, connection string, decode bool) []byte {
	b = append(append(b, content(r.line)...), "\r\n"...)
	if connection != "" {
		b = append(append(append(b, "Connection: "...), connection...), "\r\n"...)
	}
	lengths, codings := 0, 0
	f, rest, ok := nextField(r.fields)
	for ; ok; f, rest, ok = nextField(rest) {
		switch {
		case f.is("content-length"):
			if lengths++; lengths == 1 {
				b = r.appendLength(b, f)
			}
		case f.is("transfer-encoding"):
			if codings++; !decode {
				b = r.appendCoding(b, f, codings == 1)
			}
		case f.is("trailer") && decode:
		case f.is("upgrade") && r.status == http.StatusSwitchingProtocols:
			b = append(b, f.raw...)
		case !f.isOneOf(hopByHop) && !r.connection.lists(f):
			b = append(b, f.raw...)
		}
	}
	return append(b, rest...)
}

// appendLength appends the first Content-Length field: not at all when a coding overrides it or
// it is no length, and else with a single one.
func (r *response) appendLength(b []byte, f field) []byte {
	switch {
	case !r.codings.none() || r.length < 0:
		return b
	case !r.listed && r.lengths == 1:
		return append(b, f.raw...)
	}
	b = append(append(b, f.name...), ": "...)
	return append(strconv.AppendInt(b, r.length, 10), "\r\n"...)
}

// appendCoding appends a Transfer-Encoding field: not at all when it names no coding, and once
// when all of them are chunked, which is applied once.
func (r *response) appendCoding(b []byte, f field, first bool) []byte {
	switch {
	case r.codings.none():
		return b
	case r.codings.others || r.codings.chunked == 1 && !r.codings.listed:
		return append(b, f.raw...)
	case !first:
		return b
	}
	b = append(b, f.name...)
	return append(b, ": chunked\r\n"...)
}
