package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Address is a parsed URL of a remote.
type Address struct {
	url *url.URL
}

// ParseAddress reads a remote's URL: ws:// or wss://, or http:// or https:// for the same. Without a scheme it is ws://.
func ParseAddress(text string) (Address, error) {
	if !strings.Contains(text, "://") {
		text = "ws://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not a URL", hideUser(text))
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return Address{}, fmt.Errorf("%q is not a ws:// or wss:// URL", hideUser(text))
	}
	if u.User != nil {
		return Address{}, errors.New("a remote's URL has no user and no password")
	}
	if u.Hostname() == "" || u.Fragment != "" {
		return Address{}, fmt.Errorf("%q is not a URL of a remote, such as ws://example.org:8080/", hideUser(text))
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return Address{u}, nil
}

// hideUser cuts what may be a user and a password out of a text that should have been a URL.
func hideUser(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, _, ok := strings.Cut(text[:at], "://")
	if ok {
		scheme += "://"
	} else {
		scheme = ""
	}
	return scheme + "…" + text[at:]
}

// Secure says that the remote is reached by TLS.
func (a Address) Secure() bool { return a.url.Scheme == "wss" }

// String returns the URL.
func (a Address) String() string { return a.url.String() }

// Name is what the remote is remembered by: host:port, and the path where it isn't "/". The scheme is no part of it, so
// that a remote keeps its identity when TLS comes before it.
func (a Address) Name() string {
	port := a.url.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[a.url.Scheme]
	}
	name := net.JoinHostPort(a.url.Hostname(), port)
	if a.url.Path != "/" {
		name += a.url.EscapedPath()
	}
	return name
}
