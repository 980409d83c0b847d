package socks

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
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

// FuzzResponse checks that a response which needs no leniency is read as net/http reads it, and
// that the head that the client gets is framed in the same way.
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
