package socks

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
)

var (
	errHeadTooLarge = errors.New("the request's head is too large")
	errControl      = errors.New("control character in the request's head")
	errFold         = errors.New("folded field in the request's head")
	errFieldName    = errors.New("malformed field name in the request's head")
	errTwoLengths   = errors.New("the request has both a length and a transfer coding")
	errCoding10     = errors.New("the request has a transfer coding that its version lacks")
	errNoHost       = errors.New("the request has no Host")
)

// peekHead waits until the head of a request is buffered as a whole and returns
// it, with the empty line at its end and without consuming it. The read buffer
// grows for a head that it can't hold, to maxHead.
func (c *clientConn) peekHead() ([]byte, error) {
	c.skipEmptyLine()
	searched := 0
	for {
		b, _ := c.in.Peek(c.in.Buffered())
		if n := headLength(b, searched); n > 0 {
			return b[:n], nil
		}
		searched = max(len(b)-2, 0)
		switch {
		case len(b) >= maxHead:
			return nil, errHeadTooLarge
		case len(b) == c.in.Size():
			c.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(b)), c.Conn), maxHead)
		}
		if _, err := c.in.Peek(len(b) + 1); err != nil {
			return nil, err
		}
	}
}

// skipEmptyLine drops an empty line ahead of a request, which some clients send
// after a body (RFC 9112 section 2.2). Errors are left to the next read.
func (c *clientConn) skipEmptyLine() {
	if first, err := c.in.Peek(1); err != nil || first[0] != '\r' {
		return
	}
	if b, err := c.in.Peek(2); err == nil && b[1] == '\n' {
		c.in.Discard(2)
	}
}

// headLength returns the length of the head that b begins with, or 0 when it is
// not complete. The first bytes of b, up to from, hold no end of it. As in
// net/http, a line may end without a carriage return.
func headLength(b []byte, from int) int {
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

// checkHead refuses what the parser of net/http lets pass or mends, and which
// others may read in another way (RFC 9112 sections 2.2, 5.2 and 6.1; request
// smuggling).
func checkHead(head []byte) error {
	lines := strings.Split(strings.TrimRight(string(head), "\r\n"), "\n")
	var length, coding, host bool
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if strings.ContainsFunc(line, func(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f }) {
			return errControl
		}
		if i == 0 {
			continue
		}
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			return errFold
		}
		name, _, _ := strings.Cut(line, ":")
		if !isToken(name) {
			return errFieldName
		}
		switch http.CanonicalHeaderKey(name) {
		case "Content-Length":
			length = true
		case "Transfer-Encoding":
			coding = true
		case "Host":
			host = true
		}
	}
	isHTTP11 := strings.HasSuffix(strings.TrimSuffix(lines[0], "\r"), " HTTP/1.1")
	switch {
	case length && coding:
		return errTwoLengths
	case coding && !isHTTP11:
		return errCoding10
	case isHTTP11 && !host && !strings.HasPrefix(lines[0], http.MethodConnect+" "):
		return errNoHost
	}
	return nil
}

// isToken reports whether s can be the name of a field (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		isAlphanumeric := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !isAlphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// hopByHop are the fields that are meant for the next hop alone, whether or not
// Connection lists them (RFC 9110 section 7.6.1), and those of a proxy's own
// authentication. Transfer-Encoding and Trailer are not in a parsed header.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// removeHopByHop removes these fields, and those that Connection lists.
func removeHopByHop(header http.Header) {
	for _, value := range header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		header.Del(name)
	}
}

// hasToken reports whether a field that is a list holds a token.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}
