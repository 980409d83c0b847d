package socks

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

var (
	errAuthority = errors.New("the target is no host and port")
	errUserinfo  = errors.New("the target holds a user name")
	errNotProxy  = errors.New("this is a proxy: it takes CONNECT, and requests for http:// URLs")
)

// splitURL splits the absolute-form of an http URL into what the URL calls its authority, without
// user name and password, and what the target is asked for, neither of which is decoded or escaped
// (RFC 9112 section 3.2). wget, apt and Java leave a user name there, and also send it as they
// would without a proxy.
func splitURL(method string, target []byte) (authority string, origin []byte, err error) {
	const scheme = "http://"
	if len(target) < len(scheme) || !equalFold(target[:len(scheme)], scheme) {
		return "", nil, errNotProxy
	}
	rest := target[len(scheme):]
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, origin = withoutUserinfo(string(rest[:end])), rest[end:]
	switch {
	case authority == "":
		return "", nil, errNotProxy
	case len(origin) == 0 && method == "OPTIONS":
		return authority, []byte("*"), nil // RFC 9112 section 3.2.4
	case len(origin) == 0 || origin[0] != '/':
		return authority, append([]byte("/"), origin...), nil
	}
	return authority, origin, nil
}

// withoutUserinfo takes off user name and password, unless others may see their end elsewhere: then
// the authority is none.
func withoutUserinfo(authority string) string {
	userinfo, rest, found := strings.Cut(authority, "@")
	if !found {
		return authority
	}
	for i := range len(userinfo) {
		if c := userinfo[i]; !isHostByte(c) && c != ':' && c != '%' { // RFC 3986 section 3.2.1
			return authority
		}
	}
	return rest
}

// connectAddress turns the target of a CONNECT into the "host:port" that is dialed. proxychains-ng
// leaves out the brackets of an IPv6 address.
func connectAddress(target string) (string, error) {
	if i := strings.LastIndexByte(target, ':'); i >= 0 {
		if addr, err := netip.ParseAddr(target[:i]); err == nil && addr.Is6() {
			target = "[" + target[:i] + "]" + target[i:]
		}
	}
	return targetAddress(target, "")
}

// targetAddress turns an authority into the "host:port" that is dialed. An empty default means
// that there must be a port.
func targetAddress(authority, defaultPort string) (string, error) {
	if strings.Contains(authority, "@") {
		return "", errUserinfo
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
	}
	if port == "" {
		port = defaultPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", errAuthority
	}
	if host, err = hostName(host); err != nil {
		return "", err
	}
	if err := checkTarget(host, int(n)); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// hostName returns the host of an authority as it is dialed, an IPv6 address without brackets.
func hostName(host string) (string, error) {
	if inside, ok := strings.CutPrefix(host, "["); ok {
		inside, ok = strings.CutSuffix(inside, "]")
		inside = strings.Replace(inside, "%25", "%", 1) // RFC 6874
		if addr, err := netip.ParseAddr(inside); !ok || err != nil || !addr.Is6() {
			return "", errName
		}
		return inside, nil
	}
	for i := range len(host) {
		if !isHostByte(host[i]) {
			return "", errName
		}
	}
	return host, nil
}

// isHostByte reports whether a URL's host can have this byte (RFC 3986 section 3.2.2). That
// leaves out escapes: what they stand for is something else to others.
func isHostByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~!$&'()*+,;=", c) >= 0
}

// sameAuthority reports whether a Host field names the authority of an http URL.
func sameAuthority(host []byte, authority string) bool {
	return strings.EqualFold(withoutPort80(string(host)), withoutPort80(authority))
}

// withoutPort80 takes the default port off, also an empty one.
func withoutPort80(authority string) string {
	if host, ok := strings.CutSuffix(authority, ":80"); ok {
		return host
	}
	return strings.TrimSuffix(authority, ":")
}
