package socks

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzRequest checks that a request which is accepted becomes exactly one on the way to its target,
// as net/http reads it: with the same framing, and without fields for this hop. What net/http
// refuses for another reason than its URL is refused here.
func FuzzRequest(f *testing.F) {
	for _, tt := range requestTests {
		f.Add([]byte(tt.sent))
	}
	for _, tt := range httpRefusals {
		f.Add([]byte(tt.sent))
	}
	for _, fields := range smuggling {
		f.Add([]byte("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + fields + "\r\n\r\n0\r\n\r\n"))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		n := headLength(sent, 0)
		if n == 0 || n > maxHead {
			return
		}
		head := bytes.Clone(sent[:n])
		req, err := parseRequest(head)
		theirs, theirErr := http.ReadRequest(bufio.NewReader(bytes.NewReader(withoutURL(head))))
		if err == nil && req.method != http.MethodConnect && theirErr != nil {
			t.Fatalf("%q is accepted; net/http says %v", head, theirErr)
		}
		if err != nil || req.head == nil {
			return
		}
		if !bytes.Equal(head, sent[:n]) {
			t.Fatal("the head has changed")
		}
		asked := bytes.Clone(req.head)
		if m := headLength(asked, 0); m != len(asked) {
			t.Fatalf("%q is a head of %d bytes and more", asked, m)
		}
		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(withoutURL(asked))))
		if err != nil {
			t.Fatalf("%q: %v", asked, err)
		}
		if got.Method != req.method || got.ContentLength != theirs.ContentLength ||
			len(got.TransferEncoding) != len(theirs.TransferEncoding) {
			t.Errorf("%q became %q", head, asked)
		}
		if chunked := len(got.TransferEncoding) > 0; chunked != (req.body.kind == framedByChunks) ||
			!chunked && got.ContentLength != req.body.left {
			t.Errorf("%q is framed by %d, %d left", asked, req.body.kind, req.body.left)
		}
		if host, err := targetAddress(got.Host, "80"); err != nil ||
			!strings.EqualFold(host, req.address) {
			t.Errorf("%q is for %q and goes to %s", asked, got.Host, req.address)
		}
		for name := range got.Header {
			field := field{name: []byte(name)}
			kept := name == "Connection" || name == "Upgrade" && req.upgrades || name == "Te"
			if !kept && (field.isOneOf(hopByHop) || field.forProxy()) {
				t.Errorf("%q has %s", asked, name)
			}
		}
	})
}

// withoutURL replaces the target of a request, about which net/http has an opinion of its own.
func withoutURL(head []byte) []byte {
	head = bytes.TrimLeft(head, "\r\n")
	line, rest := nextLine(head)
	parts := bytes.Split(content(line), []byte(" "))
	if len(parts) != 3 || len(parts[1]) == 0 || string(parts[0]) == http.MethodConnect {
		return head
	}
	parts[1] = []byte("/")
	return append(append(bytes.Join(parts, []byte(" ")), "\r\n"...), rest...)
}

// FuzzChunks checks that a strict scan accepts only what net/http does, ends where that ends and
// finds the same data, that a lenient scan agrees with it then, and that pieces make no difference.
func FuzzChunks(f *testing.F) {
	for _, body := range chunkAttacks {
		f.Add([]byte(body), uint8(1))
	}
	f.Add([]byte("2;a=\"b\"\r\nab\r\n0A\r\n0123456789\r\n000\r\nX: y\r\nZ:\r\n\r\nGET"), uint8(3))
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		scan := func(strict bool, step int) (n int, data []byte, done bool, err error) {
			c := chunks{strict: strict}
			b := bytes.Clone(body)
			for n < len(b) && c.state != chunksDone && err == nil {
				m, piece, failed := c.scan(b[n:min(n+step, len(b))], true)
				n, data, err = n+m, append(data, piece...), failed
			}
			return n, data, c.state == chunksDone, err
		}
		n, data, done, err := scan(true, len(body)+1)
		n1, data1, done1, err1 := scan(true, int(step)+1)
		if n != n1 || !bytes.Equal(data, data1) || done != done1 || err != err1 {
			t.Fatalf("in pieces: %d, %q, %v, %v; at once %d, %q, %v, %v", n1, data1, done1, err1, n, data,
				done, err)
		}
		if !done {
			return
		}
		if n1, data1, done1, err1 := scan(false, int(step)+1); n != n1 || !bytes.Equal(data, data1) ||
			!done1 || err1 != nil {
			t.Fatalf("lenient: %d, %q, %v, %v; strict %d, %q", n1, data1, done1, err1, n, data)
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
		// net/http's lines are shorter
		if len(body) < 4096 && (err != nil || !bytes.Equal(theirs, data)) {
			t.Errorf("%q: %q, net/http: %q, %v", body, data, theirs, err)
		}
	})
}

// FuzzEarlyEnd checks that no client finds the end of a chunked body before it is passed on as a
// whole, if its connection was to go on: what follows would be another server's response for it.
func FuzzEarlyEnd(f *testing.F) {
	for _, tt := range earlyEnds {
		f.Add([]byte(tt.body), uint8(0))
	}
	for _, body := range chunkAttacks {
		f.Add([]byte(body), uint8(2))
	}
	for _, tt := range lenientTests {
		_, body, _ := strings.Cut(tt.said, "\r\n\r\n")
		f.Add([]byte(body), uint8(1))
	}
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		var out bytes.Buffer
		c := bodyCopy{dst: &out, in: bufio.NewReaderSize(bytes.NewReader(body), 16+int(step)),
			body: &framing{kind: framedByChunks, chunks: chunks{promised: true}}}
		err := c.run()
		passed := out.Bytes()
		check := func(client string, end int) {
			if end >= 0 && (end < len(passed) || err == io.ErrUnexpectedEOF) {
				t.Errorf("%q: %q is passed on, %v; %s ends at %d", body, passed, err, client, end)
			}
		}
		check("Firefox", firefoxEnd(passed, int(step)+1))
		for _, lineEnd := range []string{"\n", "\r\n"} {
			check("Python", readerEnd(passed, lineEnd, pythonSize))
			check("a lenient client", readerEnd(passed, lineEnd, leadingSize))
		}
		if data := decoded(body, false); err == nil && !bytes.Equal(decoded(passed, true), data) {
			t.Errorf("%q becomes %q", data, passed)
		}
	})
}

// decoded returns the data of a chunked body, as this package reads it.
func decoded(body []byte, promised bool) []byte {
	c := chunks{promised: promised}
	_, data, _ := c.scan(bytes.Clone(body), true)
	return data
}

// firefoxEnd returns where Firefox finds the end of a chunked body that comes in pieces of step
// bytes, or -1. See nsHttpChunkedDecoder: a line ends where its NUL is, loses a carriage return at
// a piece's end, and may be empty in many places.
func firefoxEnd(body []byte, step int) int {
	var line []byte
	left, trailer := 0, false
	for n := 0; n < len(body); {
		piece := body[n:min(n-n%step+step, len(body))]
		if left > 0 {
			size := min(left, len(piece))
			n, left = n+size, left-size
			continue
		}
		part, _, whole := bytes.Cut(piece, []byte("\n"))
		line = append(line, bytes.TrimSuffix(part, []byte("\r"))...)
		if n += len(part); !whole {
			continue
		}
		n++
		text, _, _ := bytes.Cut(line, []byte("\x00"))
		line = nil
		switch {
		case trailer && len(text) == 0:
			return n
		case !trailer && len(text) > 0:
			size, ok := leadingSize(bytes.TrimPrefix(bytes.ToLower(text), []byte("0x")))
			if !ok {
				return -1
			}
			left, trailer = size, size == 0
		}
	}
	return -1
}

// readerEnd returns where a client finds the end of a chunked body, or -1, that reads lines up to
// lineEnd, sizes as it does, and any two bytes behind a chunk's data.
func readerEnd(body []byte, lineEnd string, size func([]byte) (int, bool)) int {
	n, trailer := 0, false
	for {
		line, _, ok := bytes.Cut(body[n:], []byte(lineEnd))
		if !ok {
			return -1
		}
		n += len(line) + len(lineEnd)
		if trailer {
			if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
				return n
			}
			continue
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		left, ok := size(digits)
		if !ok || left > len(body)-n-2 {
			return -1
		}
		if trailer = left == 0; !trailer {
			n += left + 2
		}
	}
}

// pythonSize is int(b, 16).
func pythonSize(b []byte) (int, bool) {
	digits := strings.TrimPrefix(strings.ToLower(string(bytes.TrimSpace(b))), "0x")
	n, err := strconv.ParseInt("0x"+digits, 0, 31)
	return int(n), err == nil
}

// leadingSize reads the hexadecimal digits that b begins with.
func leadingSize(b []byte) (int, bool) {
	digits := len(b) - len(bytes.TrimLeft(b, "0123456789abcdefABCDEF"))
	n, err := strconv.ParseInt(string(b[:digits]), 16, 31)
	return int(n), err == nil
}

// closingHead is how a head begins in which all clients read the same status, and that their
// connection ends.
var closingHead = regexp.MustCompile(
	`^(?i:HTTP/\d\.\d|ICY) +(\d{3})(?: [^\n]*)?\r\nConnection: close\r\n[^ \t]`)

// FuzzResponse checks that a response which needs no leniency is read as net/http reads it, and
// that the head that the client gets is framed in the same way. A client that is told that its
// connection ends gets that ahead of all in which clients differ.
func FuzzResponse(f *testing.F) {
	for _, tt := range lenientTests {
		f.Add([]byte(tt.said), false)
		f.Add([]byte(tt.want), true)
	}
	for _, tt := range strictTests {
		f.Add([]byte(tt.head), tt.method == "HEAD")
	}
	f.Fuzz(func(t *testing.T, said []byte, isHead bool) {
		n := headLength(said, 0)
		if n == 0 || n > maxTargetHead {
			return
		}
		method := http.MethodGet
		if isHead {
			method = http.MethodHead
		}
		r, err := parseResponse(said[:n], method)
		if err != nil {
			return
		}
		head := r.appendHead(nil, "close", false)
		if m := headLength(head, 0); m != len(head) {
			t.Fatalf("%q is a head of %d bytes and more", head, m)
		}
		begin := closingHead.FindSubmatch(head)
		if begin == nil || string(begin[1]) != strconv.Itoa(r.status) || bytes.IndexByte(head, 0) >= 0 ||
			bytes.Count(head, []byte("\r")) != bytes.Count(head, []byte("\r\n")) {
			t.Fatalf("%q becomes %q", said[:n], head)
		}
		again, err := parseResponse(head, method)
		if err != nil || again.body.kind != r.body.kind || again.body.left != r.body.left ||
			again.status != r.status || !again.close {
			t.Fatalf("%q, framed by %d, becomes %q, framed by %d; %v", said[:n], r.body.kind, head,
				again.body.kind, err)
		}
		if r.lenient {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)),
			&http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		switch chunked := len(theirs.TransferEncoding) > 0; r.body.kind {
		case framedByChunks:
			if !chunked {
				t.Errorf("%q is not chunked", head)
			}
		case framedByLength:
			if theirs.ContentLength != r.length || chunked {
				t.Errorf("%q is of %d bytes", head, theirs.ContentLength)
			}
		case framedByClose:
			if theirs.ContentLength != -1 || chunked {
				t.Errorf("%q has a length", head)
			}
		}
	})
}
