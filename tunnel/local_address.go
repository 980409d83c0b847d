package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Address is the parsed URL of a remote.
type Address struct {
	url    *url.URL
	family Family
}

// ParseAddress parses the URL of a remote: ws:// or wss://, or http:// or https:// for the same.
// Without a scheme it is ws://.
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
		return Address{}, errors.New("a remote's URL can't hold a user or a password")
	}
	if u.Hostname() == "" || u.Fragment != "" {
		return Address{}, fmt.Errorf("%q is not a URL of a remote, such as ws://example.org:8080/",
			hideUser(text))
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return Address{url: u}, nil
}

// hideUser removes what may be a user and a password from a text that should have been a URL.
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

// Secure reports whether the remote is reached over TLS.
func (a Address) Secure() bool { return a.url.Scheme == "wss" }

// Over returns the address as it is reached over one version of IP. With a proxy on the way, that
// is for the connection to the proxy.
func (a Address) Over(family Family) Address {
	a.family = family
	return a
}

// String returns the URL.
func (a Address) String() string { return a.url.String() }

// Name returns the name under which the remote is remembered: host:port, with the host in lower
// case and without a dot at its end, followed by the path unless that is "/". The scheme is not
// part of it, so that a remote keeps its identity when TLS is put in front of it.
func (a Address) Name() string {
	port := a.url.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[a.url.Scheme]
	}
	host := strings.ToLower(strings.TrimSuffix(a.url.Hostname(), "."))
	name := net.JoinHostPort(host, port)
	if a.url.Path != "/" {
		name += a.url.EscapedPath()
	}
	return name
}
