package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"culvert/internal/cli/exit"
	"culvert/tunnel"
)

// maxShownURL bounds a URL of a redirect in a hint, in bytes: one may be made to be long.
const maxShownURL = 200

// obstacle explains what is in the way to the remote itself, and what to do. The hint is empty if
// the error shows nothing of the kind.
func obstacle(err error, c *connection) (hint string, why error) {
	if status, ok := errors.AsType[*tunnel.StatusError](err); ok {
		why = status
	}
	switch tunnel.ObstacleOf(err) {
	case tunnel.ObstacleWantsTLS:
		return "with TLS the address begins with wss://", tunnel.ErrNeedsTLS
	case tunnel.ObstacleNoTLS:
		return "check the address; without TLS it begins with ws://",
			errors.New("the server does not speak TLS")
	case tunnel.ObstacleUpgrade:
		return "make the proxy in front of the remote pass on Upgrade and Connection, " +
			"or use wss://, which a proxy on the way can't change", why
	case tunnel.ObstaclePortal:
		return "the network asks for a login: open any page in a browser, log in, and try again", why
	case tunnel.ObstaclePage:
		return "this is a web page and no remote: check the URL's path; a network that asks for " +
			"a login answers like this too, so try a page in a browser", why
	case tunnel.ObstacleRedirect:
		return redirectHint(tunnel.RedirectOf(err, c.address), c.address), why
	case tunnel.ObstacleProxyAuth:
		if why == nil { // it is about --via
			return "", nil
		}
		return "a proxy on the way wants a user and a password: name it with " +
			"--via http://USER:PASS@HOST:PORT, best with the variable CULVERT_VIA", why
	case tunnel.ObstacleAuth:
		return "the server in front of the remote wants a login: ask its operator for a path " +
			"without, or give it with --header 'Authorization: Basic …'", why
	}
	return "", nil
}

// redirectHint tells what to do about a redirect, which is never followed: whoever is on the way
// may send one.
func redirectHint(to *tunnel.Redirect, from tunnel.Address) string {
	target := "ws" + strings.TrimPrefix(to.To, "http")
	switch {
	case !strings.HasPrefix(to.To, "http") || len(target) > maxShownURL:
		return "check the address; redirects are not followed"
	case to.SameHost && to.Secure && !from.Secure():
		return "the server wants TLS: use " + target
	case to.SameHost:
		return "redirects are not followed: if the remote is there, use " + target
	}
	return "a network that asks for a login answers like this, so try a page in a browser; " +
		"if the remote has moved, use " + target
}

// withClock adds to a failure that clocks differ, if certificates are refused because of that.
func withClock(err error, f *exit.Failure) {
	var validity x509.CertificateInvalidError
	if clock, ok := errors.AsType[*tunnel.ClockError](err); ok {
		f.Hint = fmt.Sprintf("set the clocks first: %s, so certificates may look expired",
			skewText(clock.Skew))
	} else if errors.As(err, &validity) && validity.Reason == x509.Expired && validity.Cert != nil {
		const form = "2006-01-02 15:04 MST"
		f.Hint = fmt.Sprintf("the certificate is valid from %s to %s, and this machine's clock says %s: "+
			"set it if it is wrong, or tell the operator of the remote",
			validity.Cert.NotBefore.UTC().Format(form), validity.Cert.NotAfter.UTC().Format(form),
			time.Now().UTC().Format(form))
	}
}

// skewText tells which clock is ahead.
func skewText(skew time.Duration) string {
	way := "behind"
	if skew < 0 {
		way = "ahead of"
	}
	return fmt.Sprintf("this machine's is %v %s the server's", skew.Abs().Round(time.Second), way)
}
