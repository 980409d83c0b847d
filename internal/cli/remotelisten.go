package cli

import (
	"net"
	"net/url"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel"
)

// listenOptions are where and how a remote serves.
type listenOptions struct {
	addresses []string
	socket    socketOptions
	path      string
	tlsCert   string // file
	tlsKey    string // file
	fallback  string // URL
	proxies   []string
	advertise string // URL
}

func (o *listenOptions) define(s *flags.Set) {
	s.Group("listening")
	s.Strings(&o.addresses, "listen", []string{"127.0.0.1:8080"},
		"accept WebSockets on `ADDR`: host:port, :port or unix:/path; repeatable").Common()
	o.socket.define(s)
	s.String(&o.path, "path", "/", "accept WebSockets at the URL path `PATH`").Common()
	s.String(&o.tlsCert, "tls-cert", "",
		"serve TLS with the certificate and its intermediates in `FILE`, in PEM")
	s.String(&o.tlsKey, "tls-key", "",
		"read the key of --tls-cert from `FILE`, in PEM, which must be private to its owner")
	s.String(&o.fallback, "fallback", "", "forward all other HTTP requests to the site at `URL`")
	s.Strings(&o.proxies, "trusted-proxy", nil, "believe the client addresses that proxies of the "+
		"network `CIDR` pass on, in X-Forwarded-For or with the PROXY protocol; unix for those on "+
		"unix sockets; repeatable")
}

// defineAdvertise defines the flag for what a remote logs when it is up.
func (o *listenOptions) defineAdvertise(s *flags.Set) {
	s.Group("output")
	s.String(&o.advertise, "advertise", "", "log the command that connects to this remote at `URL` "+
		"(default: the URL of the first address that isn't of loopback)")
}

// bind binds all addresses or none.
func (o *listenOptions) bind() ([]net.Listener, error) {
	if len(o.addresses) == 0 {
		return nil, exit.Usagef(`such as listen = [":8080"]`, "listen names no address")
	}
	access, err := o.socket.access(o.addresses)
	if err != nil {
		return nil, err
	}
	return listenAll(o.addresses, access)
}

// parseProxies parses all --trusted-proxy.
func parseProxies(list []string) (proxies tunnel.TrustedProxies, err error) {
	for i, text := range list {
		if proxies, err = tunnel.ParseTrustedProxies(list[:i+1]); err != nil {
			return proxies, &flags.ValueError{
				Flag: "trusted-proxy", Value: text, Why: "not a network, an address or unix",
				Example: "10.0.0.0/8",
			}
		}
	}
	return proxies, nil
}

// parseFallback parses --fallback, nil if it is not given.
func parseFallback(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	site, err := tunnel.ParseFallback(text)
	if err != nil {
		return nil, &flags.ValueError{
			Flag: "fallback", Value: text, Secret: true, Why: err.Error(),
			Example: "http://127.0.0.1:8000/",
		}
	}
	return site, nil
}
