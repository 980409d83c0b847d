package tunnel

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
)

// sessionHeader is the field of an upgrade that has the same value for all carriers of a session,
// so that a load balancer can lead them to the node that has the session, and a node that stops can
// tell them from others. It identifies nobody, and proves nothing.
const sessionHeader = "Culvert-Session"

// routeSize is the length of its value's random bits, in bytes.
const routeSize = 16

// routeEncoding is how the value is written.
var routeEncoding = base64.RawURLEncoding

// newRouteName returns a value for a new session, unrelated to all else that is known of it.
func newRouteName() string {
	name := make([]byte, routeSize)
	rand.Read(name) // never fails
	return routeEncoding.EncodeToString(name)
}

// routeNameOf returns the value in a request, "" if there is none that a local could have sent.
func routeNameOf(request *http.Request) string {
	name := request.Header.Get(sessionHeader)
	if len(name) != routeEncoding.EncodedLen(routeSize) {
		return ""
	}
	if _, err := routeEncoding.DecodeString(name); err != nil {
		return ""
	}
	return name
}
