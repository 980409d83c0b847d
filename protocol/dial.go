package protocol

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// DialFunc connects to an address, which is host:port; the network is "tcp".
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NewDialer returns a dialer of WebSockets for Client. It connects with dial for ws://, and with
// dialTLS, which includes the TLS handshake, for wss://. If they are nil it uses net.Dialer and
// tls.Dialer. Client relies on NewDialer's wrapper around their connections, so don't replace these
// functions later, and don't set TLSClientConfig or Proxy; the dialer's other fields may be set.
// Each call returns a new dialer.
//
// Nothing but the context's deadline and the dialer's HandshakeTimeout, which is 0, bounds a call.
// Interim responses (RFC 9110, section 15.2) are skipped.
//
// It uses no compression, which would reveal content through lengths and cannot shrink ciphertext,
// and no proxy from the environment: the caller decides how to reach the network.
func NewDialer(dial, dialTLS DialFunc) *websocket.Dialer {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if dialTLS == nil {
		dialTLS = new(tls.Dialer).DialContext
	}
	return &websocket.Dialer{
		NetDialContext:    dial.stopAtHead,
		NetDialTLSContext: dialTLS.stopAtHead,
		ReadBufferSize:    headBufferSize,
		WriteBufferSize:   upgradeBufferSize,
	}
}

// stopAtHead dials, for gorilla.
func (dial DialFunc) stopAtHead(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &dialedConn{Conn: conn}, nil
}

// dialedConn is a connection on which an HTTP response is read first. No read goes beyond the end
// of the response's head: gorilla reads through a private buffer, in which a frame that arrived
// together with the head would be lost. What arrived after the head goes to the next read, which is
// gorilla's if the server refuses (the response's body), and newWire's otherwise.
//
// gorilla takes the first response for the final one, so the heads of interim responses are
// withheld from it.
type dialedConn struct {
	net.Conn
	headEnded bool   // head is complete, and the final response's
	head      []byte // has arrived and was not read yet
	emptyLine bool   // the current line of the head is empty, or a carriage return
	status    int    // of head, once its first line is known
	isKnown   bool
	dropped   int    // bytes of interim heads
	behind    []byte // what has arrived after the head
}

// NetConn returns the connection that was dialed, for what needs its socket.
func (c *dialedConn) NetConn() net.Conn { return c.Conn }

// errForeignDialer is returned for another dialer's WebSocket, which may have lost frames.
var errForeignDialer = errors.New("protocol: the WebSocket is not from a dialer of NewDialer")

// ErrResponseHead is returned when the head of an HTTP response, or its first line, is too large.
var ErrResponseHead = errors.New("protocol: the head of the HTTP response is too large")

func (c *dialedConn) Read(p []byte) (int, error) {
	var err error
	for !c.headEnded && err == nil {
		err = c.receiveHead()
	}
	switch {
	case len(c.head) > 0:
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	case err != nil:
		return 0, err
	case len(c.behind) > 0:
		n := copy(p, c.behind)
		c.behind = c.behind[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// receiveHead reads more of the head. It drops an interim response once that is complete.
func (c *dialedConn) receiveHead() error {
	if len(c.behind) == 0 {
		buffer := make([]byte, headBufferSize)
		n, err := c.Conn.Read(buffer)
		c.behind = buffer[:n]
		if n == 0 {
			return err
		}
	}
	end := c.readHead(c.behind)
	c.head = append(c.head, c.behind[:end]...)
	c.behind = c.behind[end:]
	if c.dropped+len(c.head) > maxResponseHead {
		c.head = nil
		return ErrResponseHead
	}
	if !c.isKnown {
		c.status, c.isKnown = statusCode(c.head)
		if !c.isKnown && len(c.head) > maxStatusLine {
			c.head = nil
			return ErrResponseHead
		}
	}
	switch {
	case !c.headEnded && c.isKnown && c.status == 0: // let the parser fail now, not a timeout
		c.headEnded, c.head = true, append(c.head, '\n')
	case !c.headEnded:
	case c.status/100 == 1 && c.status != http.StatusSwitchingProtocols:
		c.dropped += len(c.head)
		c.headEnded, c.emptyLine, c.isKnown, c.head = false, false, false, nil
	case c.status != http.StatusSwitchingProtocols:
		// gorilla reads some of the body, which may never end.
		_ = c.Conn.SetReadDeadline(time.Now().Add(refusalTimeout))
	}
	return nil
}

// statusCode returns the status code of a head, 0 if the first line is not an HTTP response's.
// known reports whether enough of that line has arrived to tell.
func statusCode(head []byte) (code int, known bool) {
	const protocol = "HTTP/"
	begin := min(len(head), len(protocol))
	if string(head[:begin]) != protocol[:begin] {
		return 0, true
	}
	line, _, known := bytes.Cut(head, []byte{'\n'})
	if !known {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(line), " ")
	digits, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	code, err := strconv.Atoi(digits)
	if err != nil || code < 100 {
		return 0, true
	}
	return code, true
}

// readHead looks for the end of the head, an empty line, and returns how much of b belongs to it.
// Lines may lack the carriage return, as for net/http, which parses the head.
func (c *dialedConn) readHead(b []byte) int {
	for i, v := range b {
		switch {
		case v == '\n' && c.emptyLine:
			c.headEnded = true
			return i + 1
		case v == '\n':
			c.emptyLine = true
		case v != '\r':
			c.emptyLine = false
		}
	}
	return len(b)
}
