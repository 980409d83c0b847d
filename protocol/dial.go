package protocol

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/gorilla/websocket"
)

// DialFunc connects to an address, which is host:port; the network is "tcp".
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NewDialer returns a dialer of WebSockets for Client. It connects with dial for ws://, and for wss:// with dialTLS, whose
// connection has done its TLS handshake. A nil function stands for net.Dialer or tls.Dialer. Client needs what
// NewDialer puts around their connections, so these functions can't be replaced later, and TLSClientConfig and Proxy are not
// for use; the dialer's other fields may be set. Each call returns a new dialer.
//
// It uses no compression, which would betray lengths and cannot shrink ciphertext, and no proxy from the environment: how
// to reach the network is the caller's to decide.
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
		HandshakeTimeout:  DefaultHandshakeTimeout,
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

// dialedConn is a connection on which an HTTP response is read first. No read goes beyond the end of the response's head:
// gorilla reads through a buffer that is out of reach, and a frame that arrived together with the head would be lost in
// there. What has arrived behind the head is given to the next read, which is gorilla's when the server refuses (the
// response's body), and else newWire's.
type dialedConn struct {
	net.Conn
	head      int    // bytes of the head that were read
	emptyLine bool   // the present line of the head has nothing so far, or a carriage return
	headEnded bool   // its last line was read
	behind    []byte // what has arrived after it
}

// errForeignDialer is for another dialer's WebSocket, which may have lost frames already.
var errForeignDialer = errors.New("protocol: the WebSocket was not opened with a dialer of NewDialer")

var errResponseHead = errors.New("protocol: the head of the HTTP response is too large")

func (c *dialedConn) Read(p []byte) (int, error) {
	if len(c.behind) > 0 {
		n := copy(p, c.behind)
		c.behind = c.behind[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if c.headEnded {
		return n, err
	}
	end := c.readHead(p[:n])
	c.behind = bytes.Clone(p[end:n])
	if c.head += end; c.head > maxResponseHead {
		return 0, errResponseHead
	}
	return end, err
}

// readHead looks for the end of the head, an empty line, and returns how much of b belongs to it. Lines may lack the
// carriage return, as for net/http, which parses the head.
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
