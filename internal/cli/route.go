package cli

import (
	"bufio"
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel"
)

// routeOptions are the way to the remote: a proxy, HTTP headers and TLS.
type routeOptions struct {
	via           string
	headers       []string
	host          string
	tlsCA         string // file
	tlsServerName string

	ipv4, ipv6 bool // connect with that family alone
}

func (o *routeOptions) define(s *flags.Set) {
	s.Group("connection")
	s.Bool(&o.ipv4, "4", "connect over IPv4 only").Overrides("6")
	s.Bool(&o.ipv6, "6", "connect over IPv6 only").Overrides("4")
	s.String(&o.via, "via", "", "connect through the proxy at `URL`, "+
		"http://[USER:PASS@]HOST:PORT or socks5://…; "+preferVariable).Secret()
	s.Strings(&o.headers, "header", nil,
		"send the HTTP `HEADER`, such as 'Name: value', when connecting; repeatable").Secret()
	s.String(&o.host, "host", "", "send `NAME` as the Host header instead of the URL's host")
	s.String(&o.tlsCA, "tls-ca", "",
		"for wss://: trust only the CA certificate in `FILE`, in PEM")
	s.String(&o.tlsServerName, "tls-server-name", "",
		"for wss://: require a certificate for `NAME` instead of the URL's host")
}

// family returns the version of IP to connect over.
func (o *routeOptions) family() (tunnel.Family, error) {
	switch {
	case o.ipv4 && o.ipv6:
		return 0, exit.Usagef("leave one of them out", "-4 contradicts -6")
	case o.ipv4:
		return tunnel.IPv4, nil
	case o.ipv6:
		return tunnel.IPv6, nil
	}
	return 0, nil
}

// load checks the options and applies them to a configuration that has the remotes' addresses.
func (o *routeOptions) load(config *tunnel.LocalConfig) error {
	var err error
	if o.via != "" {
		if config.Via, err = tunnel.ParseProxy(o.via); err != nil {
			return &flags.ValueError{
				Flag: "via", Value: o.via, Secret: true, Why: err.Error(),
				Form:    "it is http://[USER:PASS@]HOST:PORT or socks5://…, with %XX for special characters",
				Example: "http://proxy.example.org:3128",
			}
		}
	}
	if config.TLS, err = o.loadTLS(config); err != nil {
		return err
	}
	if config.Header, err = parseHeaders(o.headers); err != nil {
		return err
	}
	if o.host != "" {
		if u, err := url.Parse("http://" + o.host); err != nil || u.Host != o.host {
			return &flags.ValueError{
				Flag: "host", Value: o.host, Why: "not a host", Example: "example.org",
			}
		}
		config.Header.Set("Host", o.host)
	}
	return nil
}

// parseHeaders parses all --header. Errors quote no value, which may be a secret.
func parseHeaders(texts []string) (http.Header, error) {
	header := http.Header{}
	for _, text := range texts {
		name, value, err := parseHeader(text)
		if err != nil {
			return nil, &flags.ValueError{
				Flag: "header", Value: text, Secret: true, Why: "want 'NAME: VALUE'",
				Example: "X-Token: 1234",
			}
		}
		switch name {
		case "Host":
			return nil, exit.Usagef("give --host NAME", "--header can't set %s", name)
		case "Upgrade", "Connection", "Content-Length", "Transfer-Encoding",
			"Sec-Websocket-Key", "Sec-Websocket-Version",
			"Sec-Websocket-Extensions", "Sec-Websocket-Protocol":
			return nil, exit.Usagef("it belongs to the WebSocket", "--header can't set %s", name)
		}
		header.Add(name, value)
	}
	return header, nil
}

// tokenChars are the characters of a header's name (RFC 9110, section 5.6.2).
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var errBadHeader = errors.New("not one HTTP header")

// parseHeader parses a header as a server would.
func parseHeader(text string) (name, value string, err error) {
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(text + "\r\n\r\n")))
	header, err := r.ReadMIMEHeader()
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return "", "", errBadHeader
	}
	for name := range header {
		if strings.Trim(name, tokenChars) != "" {
			break
		}
		return name, header.Get(name), nil
	}
	return "", "", errBadHeader
}
