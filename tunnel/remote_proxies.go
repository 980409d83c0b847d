package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pires/go-proxyproto"
)

// TrustedProxies are those in front of a Remote that pass on the addresses of their clients, in
// X-Forwarded-For or with the PROXY protocol, version 1 or 2. Others are not believed. A trusted
// proxy has to do one of the two for every client, or clients could do it themselves. The fallback
// site gets X-Forwarded-Proto of those that use HTTP.
type TrustedProxies struct {
	Networks []netip.Prefix
	Unix     bool // those that connect to a unix socket
}

// ParseTrustedProxies parses a list of networks, addresses and the word unix.
func ParseTrustedProxies(list []string) (proxies TrustedProxies, err error) {
	for _, text := range list {
		network, err := netip.ParsePrefix(text)
		switch addr, addrErr := netip.ParseAddr(text); {
		case text == "unix":
			proxies.Unix = true
			continue
		case addrErr == nil && addr.Zone() == "":
			network = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		case err != nil || network.Addr().Is4In6():
			return TrustedProxies{}, fmt.Errorf("%q is neither a network nor an address", text)
		}
		proxies.Networks = append(proxies.Networks, network.Masked())
	}
	return proxies, nil
}

// trusts reports whether a peer is a trusted proxy. One on a unix socket has an invalid address.
func (t *TrustedProxies) trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return t.Unix
	}
	peer = peer.Unmap().WithZone("")
	return slices.ContainsFunc(t.Networks, func(n netip.Prefix) bool { return n.Contains(peer) })
}

// forwarded returns the address of the client in the X-Forwarded-For of a request from a trusted
// proxy. Each proxy appends the address of its peer, so that is the last one that is not a trusted
// proxy's: what precedes it is the client's word. It is invalid if there is none.
func (t *TrustedProxies) forwarded(header http.Header) (client netip.Addr) {
	list := strings.Join(header.Values("X-Forwarded-For"), ",")
	for list != "" {
		at := strings.LastIndexByte(list, ',')
		entry := strings.TrimSpace(list[at+1:])
		list = list[:max(at, 0)]
		addr, err := netip.ParseAddr(strings.Trim(entry, "[]"))
		if err != nil { // some proxies add the port
			withPort, err := netip.ParseAddrPort(entry)
			if err != nil {
				return client
			}
			addr = withPort.Addr()
		}
		client = addr.Unmap().WithZone("")
		if !t.trusts(client) {
			return client
		}
	}
	return client
}

// proxiedKey marks requests in their context: see isProxied.
type proxiedKey struct{}

// isProxied reports whether a request that locate has returned comes from a trusted proxy.
func isProxied(request *http.Request) bool {
	return request.Context().Value(proxiedKey{}) != nil
}

// locate returns a request whose RemoteAddr is where its client is, if a trusted proxy says so.
func (r *Remote) locate(request *http.Request) *http.Request {
	peer := clientAddr(request)
	located := request.RemoteAddr
	c := strangerOf(request)
	if c != nil && c.unknown {
		return request // whose fields its client has written: the proxy has spoken before
	}
	if c != nil && c.client.IsValid() {
		peer, located = c.client.Addr(), c.client.String()
	}
	proxied := r.cfg.Proxies.trusts(peer)
	if _, ok := request.Header["X-Forwarded-For"]; ok {
		if !proxied {
			r.gate.hint.Do(func() {
				r.cfg.Log.Info().Str("from", located).Msg("X-Forwarded-For is ignored: its sender is " +
					"not a trusted proxy; all clients of a proxy there count as one address")
			})
		} else if addr := r.cfg.Proxies.forwarded(request.Header); addr.IsValid() {
			located = netip.AddrPortFrom(addr, 0).String()
		}
	}
	if located == request.RemoteAddr && !proxied {
		return request
	}
	ctx := request.Context()
	if proxied {
		ctx = context.WithValue(ctx, proxiedKey{}, true)
	}
	moved := request.WithContext(ctx)
	moved.RemoteAddr = located
	return moved
}

// sourceOf returns the source of a client at addr, which is unknown if only a proxy is there.
func (r *Remote) sourceOf(addr netip.Addr) source {
	if r.cfg.Proxies.trusts(addr) {
		return source{}
	}
	return sourceOf(addr)
}

// readProxyHeader reads the header of the PROXY protocol, if there is one, and counts the
// connection where its client is from then on.
func (c *strangerConn) readProxyHeader() error {
	in := &notedReader{Reader: c.Conn}
	c.early = bufio.NewReader(in)
	header, err := proxyproto.Read(c.early)
	if errors.Is(err, proxyproto.ErrNoProxyProtocol) {
		return nil
	}
	if err != nil {
		if in.err == nil { // it is the header that is wrong
			c.remote.gate.headers.Warn().Err(err).Stringer("proxy", c.RemoteAddr()).
				Msg("the PROXY header of a trusted proxy can't be used: its clients are cut off")
		}
		return err
	}
	from, _, ok := header.TCPAddrs()
	if header.Command.IsLocal() || !ok { // the proxy's own, or of a client without an address
		c.unknown = true
		return nil
	}
	client := from.AddrPort()
	c.client = netip.AddrPortFrom(client.Addr().Unmap().WithZone(""), client.Port())
	c.move(c.remote.sourceOf(c.client.Addr()))
	return nil
}

// notedReader notes that reading has failed.
type notedReader struct {
	io.Reader
	err error
}

func (r *notedReader) Read(p []byte) (n int, err error) {
	n, err = r.Reader.Read(p)
	r.err = err
	return n, err
}

// move counts the connection as one of another source.
func (c *strangerConn) move(from source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.place.Load().leave()
	c.place.Store(c.remote.gate.takeConn(from, func() { abort(c.Conn) }))
}

// noteUnknownClients logs that clients of some listeners can't be told apart: they are on this
// machine, or have come to a proxy there.
func (r *Remote) noteUnknownClients(listeners []net.Listener) {
	for _, ln := range listeners {
		addr := peerAddr(ln.Addr())
		if (!addr.IsValid() || addr.IsLoopback()) && !r.cfg.Proxies.trusts(addr) {
			r.cfg.Log.Info().Msg("no shares or penalties per address for clients on this machine, " +
				"or behind a proxy on it that is not trusted")
			return
		}
	}
}
