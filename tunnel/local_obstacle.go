package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"time"

	"culvert/certs"
	"culvert/protocol"
)

// Obstacle is what is in the way to a remote, as far as the way it answers shows that.
type Obstacle string

// The obstacles.
const (
	ObstacleNone      Obstacle = ""
	ObstacleUpgrade   Obstacle = "upgrade-removed"      // by a proxy that knows no WebSockets
	ObstaclePortal    Obstacle = "captive-portal"       // of a network that asks for a login
	ObstaclePage      Obstacle = "web-page"             // in place of the remote: a site, or a portal
	ObstacleRedirect  Obstacle = "redirect"             // to another URL, which is not followed
	ObstacleWantsTLS  Obstacle = "wants-tls"            // a server that was asked without
	ObstacleNoTLS     Obstacle = "no-tls"               // a server that was asked with TLS
	ObstacleProxyAuth Obstacle = "proxy-authentication" // which a proxy wants
	ObstacleAuth      Obstacle = "authentication"       // which the server wants, ahead of the remote
	ObstacleClock     Obstacle = "clock"                // certificates are checked by a wrong one
)

// ObstacleOf returns what an error of an attempt to connect shows, ObstacleNone for nothing.
func ObstacleOf(err error) Obstacle {
	var status *StatusError
	var proxy *ProxyError
	var plaintext tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrNeedsTLS):
		return ObstacleWantsTLS
	case errors.As(err, &plaintext):
		return ObstacleNoTLS
	case errors.As(err, &status):
		return status.obstacle()
	case errors.As(err, &proxy) && isAuthentication(proxy.Code): // tinyproxy sends 401
		return ObstacleProxyAuth
	case errors.As(err, new(*ClockError)), isNotYetValid(err):
		return ObstacleClock
	}
	return ObstacleNone
}

// isNotYetValid reports whether a certificate of TLS is valid only in the future.
func isNotYetValid(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired && invalid.Cert != nil &&
		time.Now().Before(invalid.Cert.NotBefore)
}

func isAuthentication(code int) bool {
	return code == http.StatusProxyAuthRequired || code == http.StatusUnauthorized
}

func (e *StatusError) obstacle() Obstacle {
	switch {
	case e.NoUpgrade:
		return ObstacleUpgrade
	case e.Code == http.StatusNetworkAuthenticationRequired: // RFC 6585, section 6
		return ObstaclePortal
	case e.Code/100 == 3 && e.Location != "":
		return ObstacleRedirect
	case e.Code == http.StatusProxyAuthRequired:
		return ObstacleProxyAuth
	case e.Code == http.StatusUnauthorized:
		return ObstacleAuth
	case e.Code/100 == 2 && e.Page:
		return ObstaclePage
	}
	return ObstacleNone
}

// isPage reports whether a response has a page for people.
func isPage(header http.Header) bool {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && (kind == "text/html" || kind == "application/xhtml+xml")
}

// Redirect describes a redirect.
type Redirect struct {
	To       string // the URL
	SameHost bool   // as that of the remote
	Secure   bool   // to https or wss
}

// RedirectOf returns where an error of an attempt to connect to an address says to go instead, nil
// if it says no such thing.
func RedirectOf(err error, from Address) *Redirect {
	status, ok := errors.AsType[*StatusError](err)
	if !ok || status.obstacle() != ObstacleRedirect {
		return nil
	}
	location, err := url.Parse(status.Location)
	if err != nil {
		return &Redirect{To: status.Location}
	}
	to := from.url.ResolveReference(location)
	return &Redirect{
		To: to.String(), SameHost: to.Hostname() == from.url.Hostname(),
		Secure: to.Scheme == "https" || to.Scheme == "wss",
	}
}

// ClockError means that a certificate is refused, and that the clocks of the two machines differ so
// much that this may be why.
type ClockError struct {
	Skew time.Duration // by how much the server's clock is ahead
	Err  error
}

func (e *ClockError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ClockError) Unwrap() error { return e.Err }

// dependsOnClock reports whether an error is that a certificate has expired, or is refused by the
// remote.
func dependsOnClock(err error) bool {
	if refused, ok := errors.AsType[*protocol.RefusedError](err); ok {
		return refused.Code == protocol.CloseCertificate
	}
	for {
		refused, ok := errors.AsType[*certs.VerifyError](err)
		if !ok || refused.Reason == certs.ReasonExpired {
			return ok
		}
		err = refused.Err
	}
}

// skewOf returns by how much at least the clock of a server is ahead of this machine's, going by
// the Date field of a response (RFC 9110, section 6.6.1) to a request that was sent at a time, and
// which has come now. It is 0 if the clocks may agree: the field has whole seconds, and was made at
// some time in between.
func skewOf(header http.Header, asked, now time.Time) (skew time.Duration, known bool) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0, false
	}
	least, most := date.Sub(now), date.Add(time.Second).Sub(asked)
	switch {
	case least > 0:
		return least, true
	case most < 0:
		return most, true
	}
	return 0, true
}
