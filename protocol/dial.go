package protocol

import "github.com/gorilla/websocket"

// NewDialer returns a dialer whose buffers fit this package's records. It uses no compression, which would betray
// lengths and cannot shrink ciphertext, and no proxy from the environment: how to reach the network is the caller's to
// decide. The caller may set the dialer's other fields; each call returns a new one.
func NewDialer() *websocket.Dialer {
	return &websocket.Dialer{
		HandshakeTimeout: DefaultHandshakeTimeout,
		ReadBufferSize:   readBufferSize,
		WriteBufferSize:  controlBufferSize,
	}
}
