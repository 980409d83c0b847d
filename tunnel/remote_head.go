package tunnel

import (
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
// alone, and keeps a line of some bytes in a hundred while it reads on. It also completes the TLS
// handshake, as net/http does for the connections of package tls.
type headConn struct {
	net.Conn // with TLS or without
	secure   *tls.Conn
	log      *log.Logger // for handshakes that fail

	reading atomic.Bool // a head is to come, or has begun

	// Only the reader uses them.
	shaken bool // the TLS handshake is complete
	lines  int  // of the head
	length int  // of the line that has begun, without a carriage return
}

// errLongHead ends what is read from a connection. It is what net/http takes for the client's end.
var errLongHead = io.EOF

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
		c.lines, c.length = 0, 0
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
	n, err := c.Conn.Read(p)
	if c.reading.Load() && !c.count(p[:n]) {
		io.WriteString(c.Conn, longHead) // an error is that it has left
		return 0, errLongHead
	}
	return n, err
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

// count counts the lines in what was read, until the empty one that ends a head. It reports false
// if they are too many.
func (c *headConn) count(p []byte) bool {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.length += len(bytes.TrimRight(p, "\r"))
			return true
		}
		c.length += len(bytes.TrimRight(p[:i], "\r"))
		if c.length == 0 && c.lines > 0 {
			c.reading.Store(false)
			return true
		}
		if c.lines++; c.lines > maxRequestLines {
			return false
		}
		c.length, p = 0, p[i+1:]
	}
	return true
}

// CloseWrite is for http.Server, which waits after that until the client has read its answer.
func (c *headConn) CloseWrite() error { return closeWrite(c.Conn) }

// NetConn returns the connection without the bound.
func (c *headConn) NetConn() net.Conn { return c.Conn }

// withoutHead returns a connection without the bound, if it has that.
func withoutHead(conn net.Conn) net.Conn {
	if c, ok := conn.(*headConn); ok {
		return c.Conn
	}
	return conn
}
