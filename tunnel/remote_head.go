package tunnel

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
)

// headConn bounds the lines in the head of each request on a connection: net/http bounds the bytes
// alone, and keeps a line of some bytes in a hundred while it reads on. It gets a line at a time,
// so that it doesn't read on behind a head, or behind a body by more than a line of the next head.
// The headConn also completes the TLS handshake, as net/http does for the connections of package
// tls.
type headConn struct {
	net.Conn // with TLS or without
	secure   *tls.Conn
	log      *log.Logger // for handshakes that fail

	reading atomic.Bool // a head is to come, or has begun

	// Only the reader uses them.
	shaken bool   // the TLS handshake is complete
	lines  int    // of the head
	rest   []byte // has been read, and is to be returned
	failed error  // what follows that
}

// httpBuffer is the size of net/http's buffer, in bytes. What it reads into a larger one is a part
// of a body.
const httpBuffer = 4096

// errLongHead ends what is read from a connection. To an error of the network net/http has no
// answer of its own.
var errLongHead error = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("too many lines")}

// longHead is the answer to a head of too many lines (RFC 6585, section 5).
const longHead = "HTTP/1.1 431 Request Header Fields Too Large\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"431 Request Header Fields Too Large"

// plainAnswer is that of net/http to a request without TLS where TLS is spoken.
const plainAnswer = "HTTP/1.0 400 Bad Request\r\n\r\n" +
	"Client sent an HTTP request to an HTTPS server.\n"

// headListener accepts connections as headConns, with TLS if it is configured.
type headListener struct {
	net.Listener
	tls *tls.Config // nil for none
	log *log.Logger
}

// Accept implements net.Listener.
func (l headListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &headConn{Conn: conn, log: l.log}
	if l.tls != nil {
		c.secure = tls.Server(conn, l.tls)
		c.Conn = c.secure
	}
	return c, nil
}

// note is told the states of http.Server.ConnState.
func (c *headConn) note(state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		c.lines = 0
		c.reading.Store(true)
	default:
		c.reading.Store(false)
	}
}

// Read implements net.Conn.
func (c *headConn) Read(p []byte) (int, error) {
	if c.secure != nil && !c.shaken {
		if err := c.secure.Handshake(); err != nil {
			c.refuse(err)
			return 0, io.EOF
		}
		c.shaken = true
	}
	n, err := c.next(p)
	if n > 0 && p[n-1] == '\n' && c.reading.Load() {
		if c.lines++; c.lines > maxRequestLines {
			io.WriteString(c.Conn, longHead) // an error is that it has left
			c.rest, c.failed = nil, errLongHead
			return 0, c.failed
		}
	}
	return n, err
}

// next reads a line at most if p may be net/http's buffer.
func (c *headConn) next(p []byte) (n int, err error) {
	if len(c.rest) > 0 {
		n = copy(p, c.rest[:returned(c.rest, len(p))])
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil
	}
	if c.failed != nil {
		return 0, c.failed
	}
	got, err := c.Conn.Read(p)
	if n = returned(p[:got], len(p)); n < got {
		c.rest, c.failed, err = bytes.Clone(p[n:got]), err, nil
	}
	return n, err
}

// returned returns how many of some bytes may be returned in a buffer of a size.
func returned(p []byte, size int) int {
	if i := bytes.IndexByte(p, '\n'); i >= 0 && size <= httpBuffer {
		return i + 1
	}
	return len(p)
}

// refuse answers a client that has not completed the TLS handshake.
func (c *headConn) refuse(err error) {
	refused, ok := errors.AsType[tls.RecordHeaderError](err)
	if ok && refused.Conn != nil && looksLikeHTTP(refused.RecordHeader) {
		io.WriteString(refused.Conn, plainAnswer)
	}
	c.log.Printf("TLS handshake error from %s: %v", c.RemoteAddr(), err)
}

// looksLikeHTTP reports whether the first bytes of a client are those of an HTTP request.
func looksLikeHTTP(begin [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO"} {
		if string(begin[:]) == method {
			return true
		}
	}
	return false
}

// CloseWrite is for http.Server, which waits after that until the client has read its answer.
func (c *headConn) CloseWrite() error { return closeWrite(c.Conn) }

// NetConn returns the connection without the bound.
func (c *headConn) NetConn() net.Conn { return c.Conn }

// withoutHead returns a connection that was hijacked without the bound, if it has that. What was
// read of it is in the buffer.
func withoutHead(conn net.Conn, buffered *bufio.Reader) net.Conn {
	c, ok := conn.(*headConn)
	if !ok {
		return conn
	}
	_, _ = buffered.Peek(buffered.Buffered() + len(c.rest)) // which came into it, and has room
	return c.Conn
}
