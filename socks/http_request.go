package socks

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
)

// request is what a proxy has to know of a request, and its head as the target gets it.
type request struct {
	method   string
	address  string // what is dialed, host:port
	http11   bool   // else the client's version is HTTP/1.0
	close    bool   // it is the client's last one
	expects  bool   // the client may wait to be told to send the body
	upgrades bool   // the client wants to switch to another protocol
	body     framing
	login    string // of Proxy-Authorization
	refused  error  // why there is no such target
	head     []byte // for the target; nil for CONNECT
}

var (
	errMalformed  = errors.New("malformed request")
	errVersion    = errors.New("only HTTP/1 is spoken here")
	errFields     = errors.New("the request has too many fields")
	errTwoLengths = errors.New("the request has both a length and a transfer coding")
	errLength     = errors.New("the request's length is malformed or ambiguous")
	errCoding     = errors.New("the request has a transfer coding other than chunked")
	errCoding10   = errors.New("the request has a transfer coding that its version lacks")
	errNoHost     = errors.New("the request has no Host")
	errHosts      = errors.New("the request has more than one Host")
)

// requestParser judges a request's head. What others might read in another way, and so take
// part of the request for another one, is refused (RFC 9112 sections 2.2, 5.2, 6.1 and 6.3;
// request smuggling).
type requestParser struct {
	req        *request
	method     []byte
	target     []byte
	fields     []byte // the lines behind the first one
	connection connectionField
	hosts      int
	codings    int
	length     int64 // of Content-Length; -1 when there is none
	upgrade    bool  // there is an Upgrade field that may be passed on
	h2c        bool
}

// parseRequest reads a head, of which it keeps nothing.
func parseRequest(head []byte) (*request, error) {
	for _, end := range []string{"\r\n", "\n"} { // RFC 9112 section 2.2
		for bytes.HasPrefix(head, []byte(end)) {
			head = head[len(end):]
		}
	}
	p := requestParser{req: new(request), length: -1}
	var line []byte
	line, p.fields = nextLine(head)
	if err := p.parseLine(content(line)); err != nil {
		return nil, err
	}
	if err := p.parseFields(); err != nil {
		return nil, err
	}
	if err := p.judge(); err != nil {
		return nil, err
	}
	p.finish()
	return p.req, nil
}

// parseLine reads the first line.
func (p *requestParser) parseLine(line []byte) error {
	if bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errControl
	}
	parts := bytes.Split(line, []byte(" "))
	if len(parts) != 3 || !isToken(parts[0]) || len(parts[1]) == 0 {
		return errMalformed
	}
	version, ok := bytes.CutPrefix(parts[2], []byte("HTTP/"))
	if !ok || len(version) != 3 || !isDigit(version[0]) || version[1] != '.' || !isDigit(version[2]) {
		return errMalformed
	}
	if version[0] != '1' {
		return errVersion
	}
	p.method, p.target = parts[0], parts[1]
	p.req.method = string(p.method)
	p.req.http11 = version[2] != '0'
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// parseFields reads the fields.
func (p *requestParser) parseFields() error {
	n := 0
	for rest := p.fields; ; n++ {
		if len(rest) > 0 && isBlank(rest[0]) {
			return errFold
		}
		f, after, ok := nextField(rest)
		switch {
		case !ok:
			return nil
		case n == maxFields:
			return errFields
		case bytes.IndexByte(content(f.raw), '\n') >= 0:
			return errFold
		case bytes.ContainsFunc(content(f.raw), isControlRune):
			return errControl
		case !f.colon || !isToken(f.name) || f.raw[len(f.name)] != ':':
			return errFieldName
		}
		if err := p.parseField(f); err != nil {
			return err
		}
		rest = after
	}
}

func isControlRune(r rune) bool { return r < 0x80 && isControl(byte(r)) }

// parseField reads a field that has to be judged.
func (p *requestParser) parseField(f field) error {
	switch {
	case f.is("host"):
		p.hosts++
	case f.is("content-length"):
		n, ok := parseLength(f.value)
		if !ok || p.length >= 0 && n != p.length {
			return errLength
		}
		p.length = n
	case f.is("transfer-encoding"):
		if p.codings++; p.codings > 1 || !equalFold(f.value, "chunked") {
			return errCoding
		}
	case f.is("connection"):
		p.connection.add(f.value)
	case f.is("proxy-connection"): // what old clients say to a proxy instead
		var c connectionField
		c.add(f.value)
		p.connection.close = p.connection.close || c.close
	case f.is("upgrade"):
		for item := range list(f.value) {
			p.upgrade = true
			// HTTP/2 would need fields that go no further than here.
			p.h2c = p.h2c || len(item) >= 3 && equalFold(item[:3], "h2c")
		}
	case f.is("expect"):
		for item := range list(f.value) {
			p.req.expects = p.req.expects || equalFold(item, "100-continue")
		}
	case f.is("proxy-authorization") && p.req.login == "":
		p.req.login = string(f.value)
	}
	return nil
}

// parseLength reads a length, which is decimal digits and nothing else.
func parseLength(value []byte) (int64, bool) {
	for _, c := range value {
		if !isDigit(c) {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

// judge settles how the body is framed.
func (p *requestParser) judge() error {
	req := p.req
	switch {
	case p.codings > 0 && p.length >= 0:
		return errTwoLengths
	case p.codings > 0 && !req.http11:
		return errCoding10
	case p.hosts > 1:
		return errHosts
	case p.hosts == 0 && req.http11 && req.method != http.MethodConnect:
		return errNoHost
	case p.codings > 0:
		req.body = framing{kind: framedByChunks, chunks: chunks{strict: true}}
	case p.length > 0:
		req.body = framing{kind: framedByLength, left: p.length}
	}
	req.close = p.connection.close || !req.http11
	req.expects = req.expects && req.http11 && !req.body.done() // RFC 9110 section 10.1.1
	req.upgrades = p.connection.upgrade && p.upgrade && !p.h2c && req.http11
	return nil
}

// finish settles where the request goes, and writes its head.
func (p *requestParser) finish() {
	req := p.req
	if req.method == http.MethodConnect {
		req.address, req.refused = connectAddress(string(p.target))
		return
	}
	authority, origin, err := splitURL(req.method, p.target)
	if err == nil {
		req.address, err = targetAddress(authority, "80")
	}
	if err != nil {
		req.refused = err
		return
	}
	req.head = p.appendHead(make([]byte, 0, len(p.fields)+len(p.target)+64), authority, origin)
}

// appendHead appends the head as the target gets it. What is not judged is copied; all lines
// end alike, since a target might not take a line feed alone for a line's end.
func (p *requestParser) appendHead(b []byte, authority string, origin []byte) []byte {
	b = append(append(append(b, p.method...), ' '), origin...)
	b = append(b, " HTTP/1.1\r\n"...)
	if p.hosts == 0 {
		b = append(append(append(b, "Host: "...), authority...), "\r\n"...)
	}
	keeps := p.kept()
	lengths := 0
	f, rest, ok := nextField(p.fields)
	for ; ok; f, rest, ok = nextField(rest) {
		switch {
		case f.is("host") && !sameAuthority(f.value, authority): // RFC 9112 section 3.2.2
			b = append(append(append(b, f.name...), ": "...), authority...)
		case f.is("connection") && keeps != "":
			b = append(append(append(b, f.name...), ": "...), keeps...)
			keeps = ""
		case p.drops(f):
			continue
		default:
			if f.is("content-length") {
				if lengths++; lengths > 1 {
					continue // they are all the same
				}
			}
			b = append(b, content(f.raw)...)
		}
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// kept returns what the target's Connection field names, or "" when it has none.
func (p *requestParser) kept() string {
	te := p.connection.te && p.req.http11
	switch {
	case p.req.upgrades && te:
		return "Upgrade, TE"
	case p.req.upgrades:
		return "Upgrade"
	case te:
		return "TE"
	}
	return ""
}

// drops reports whether a field goes no further than here.
func (p *requestParser) drops(f field) bool {
	switch {
	case f.is("upgrade"):
		return !p.req.upgrades
	case f.is("te"): // codings and trailers go through as they are
		return !p.connection.te || !p.req.http11
	case f.is("expect"):
		return !p.req.http11
	}
	return f.isOneOf(hopByHop) || f.forProxy() || p.connection.lists(f)
}

// repeatable reports whether the request may be sent once more when its target may have got it
// (RFC 9110 section 9.2.2), and still can be.
func (r *request) repeatable() bool {
	if r.body.kind != noBody || r.upgrades {
		return false
	}
	switch r.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
