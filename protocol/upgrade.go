package protocol

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// Upgrade turns an HTTP request into a WebSocket for Server. On failure it has answered the request
// with an HTTP error. It closes the connection of a client that sent frames along with the request:
// a client must wait for the server's response (RFC 6455, section 4.1).
//
// The Origin header is not checked. That check protects users from pages of other sites that use
// the user's authority, such as cookies. Here a client has no authority but its own key's, proved
// in the handshake, so a page can do nothing that its author could not do without the browser. The
// reference's client in a browser is a legitimate peer, from any origin. A server that admits every
// key has to check Origin itself: its clients' authority is to reach it, which a visitor's browser
// may do where the page's author can't.
func Upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	u := websocket.Upgrader{
		// A client may have left earlier responses unread, so that there is no room for this one.
		HandshakeTimeout: DefaultHandshakeTimeout,

		ReadBufferSize:  headBufferSize,
		WriteBufferSize: upgradeBufferSize,
		CheckOrigin:     func(*http.Request) bool { return true },
	}
	// As net/http does in other responses. A client can tell that its clock is wrong.
	date := time.Now().UTC().Format(http.TimeFormat)
	return u.Upgrade(hijacker{w}, r, http.Header{"Date": {date}})
}

// hijacker is a ResponseWriter that gorilla can hijack, even if it is a middleware's that only has
// an Unwrap method.
type hijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}
