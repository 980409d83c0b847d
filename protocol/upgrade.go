package protocol

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// Upgrade turns an HTTP request into a WebSocket for Server. When it fails it has answered the request with an HTTP error,
// or closed the connection of a client that did not wait for the answer: frames that come with the request are refused, as
// a client may only send them once the server has agreed (RFC 6455, section 4.1).
//
// The Origin header is not checked. What that check protects is a user whose browser would act with that user's
// authority (cookies, say) for a page from elsewhere; here a client has no authority but what it proves with its own
// key in the handshake, so a page can do nothing that its author could not do without the browser. The reference's
// client in a browser is a legitimate peer, and comes from any origin.
func Upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	u := websocket.Upgrader{
		ReadBufferSize:  headBufferSize,
		WriteBufferSize: upgradeBufferSize,
		CheckOrigin:     func(*http.Request) bool { return true },
	}
	return u.Upgrade(hijacker{w}, r, nil)
}

// hijacker is a ResponseWriter that gorilla can hijack, also when it is a middleware's that only has an Unwrap method.
type hijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}
