package protocol

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// Upgrade turns an HTTP request into a WebSocket for Server. It takes the unmasked frames of the reference's client on
// Node. When it fails it has answered the request with an HTTP error.
//
// The Origin header is not checked. What that check protects is a user whose browser would act with that user's
// authority (cookies, say) for a page from elsewhere; here a client has no authority but what it proves with its own
// key in the handshake, so a page can do nothing that its author could not do without the browser. The reference's
// client in a browser is a legitimate peer, and comes from any origin.
func Upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	u := websocket.Upgrader{
		ReadBufferSize:  readBufferSize,
		WriteBufferSize: controlBufferSize,
		CheckOrigin:     func(*http.Request) bool { return true },
	}
	return u.Upgrade(unmaskingWriter{w}, r, nil)
}

// unmaskingWriter is a ResponseWriter whose hijacked connection accepts unmasked frames.
type unmaskingWriter struct{ http.ResponseWriter }

// Hijack implements http.Hijacker, also through a middleware's ResponseWriter that only has an Unwrap method.
func (w unmaskingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return acceptUnmasked(conn), rw, nil
}
