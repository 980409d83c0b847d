package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/httplog"
	"culvert/internal/netfault"

	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"
)

const (
	pacPath = "/proxy.pac"

	// pacTimeout bounds one request for the PAC file, and how long a connection may be idle.
	pacTimeout = 10 * time.Second

	// pacMaxHeader bounds the header of such a request in bytes.
	pacMaxHeader = 16 << 10

	// pacMaxConns bounds the connections that are served at once. More wait in the kernel.
	pacMaxConns = 64
)

// pac serves a proxy auto-configuration file, which makes a browser use the SOCKS port, except for
// the hosts that it should connect to directly. It never falls back to a direct connection.
type pac struct {
	listener net.Listener
	socks    *net.TCPAddr
	auth     bool     // the SOCKS port requires a password
	direct   []string // conditions in JavaScript
	names    []string // of this machine, in lower case
	log      zerolog.Logger
}

// parseDirect turns a pattern for hosts into a condition in JavaScript. A pattern is a name with
// the wildcards * and ?, an address, or a range of IPv4 addresses. A name is never resolved to see
// whether its address is in such a range: that would leak the names that the browser visits, and
// the near end may not know them.
func parseDirect(pattern string) (string, error) {
	fail := func(why string) (string, error) {
		return "", &flags.ValueError{
			Flag: "pac-direct", Value: pattern, Why: why,
			Form: "it is a host or a range of IPv4 addresses", Example: "*.example.org",
		}
	}
	if strings.Contains(pattern, "/") {
		prefix, err := netip.ParsePrefix(pattern)
		if err != nil || !prefix.Addr().Is4() {
			return fail("not a range of IPv4 addresses")
		}
		base, mask := prefix.Masked().Addr(), net.IP(net.CIDRMask(prefix.Bits(), 32))
		return fmt.Sprintf("literal && isInNet(host, %s, %s)",
			quoteJS(base.String()), quoteJS(mask.String())), nil
	}
	host := strings.ToLower(strings.TrimSuffix(pattern, "."))
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "host === " + quoteJS(addr.String()), nil
	}
	if host == "" {
		return fail("it is empty")
	}
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.*?") != "" {
		return fail("a name holds ASCII letters, digits, - and dots; " +
			"others have an ASCII form, which begins with xn--")
	}
	if strings.ContainsAny(host, "*?") {
		return "shExpMatch(host, " + quoteJS(host) + ")", nil
	}
	return "host === " + quoteJS(host), nil
}

// quoteJS returns a string literal. JSON's is JavaScript's too, since encoding/json escapes U+2028
// and U+2029, which only newer versions of the language allow in one.
func quoteJS(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("cli: a string has no JSON: " + err.Error())
	}
	return string(b)
}

// openPAC binds the address of --pac.
func openPAC(
	address string, direct []string, socks net.Listener, auth bool, log zerolog.Logger,
) (*pac, error) {
	p := &pac{auth: auth, log: log}
	for _, pattern := range direct {
		condition, err := parseDirect(pattern)
		if err != nil {
			return nil, err
		}
		p.direct = append(p.direct, condition)
	}
	if socks == nil {
		return nil, exit.Usagef("leave one of them out",
			"--pac sends browsers to the port of --socks, which is turned off")
	}
	var ok bool
	if p.socks, ok = socks.Addr().(*net.TCPAddr); !ok {
		return nil, exit.Usagef("give --socks HOST:PORT",
			"--pac sends browsers to the port of --socks, and they don't support unix sockets")
	}
	if strings.HasPrefix(address, "unix:") {
		return nil, exit.Usagef("give --pac HOST:PORT",
			"browsers can't get a PAC file from a unix socket")
	}
	address, err := listenAddress("pac", address, thisMachine, "8090")
	if err != nil {
		return nil, err
	}
	ln, err := listenPAC(address, p.socks)
	if err != nil {
		return nil, err
	}
	p.listener = ln
	p.names = ownNames(address)
	if p.socks.IP.IsLoopback() && !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		log.Warn().Stringer("pac", ln.Addr()).Stringer("socks", p.socks).
			Msg("other machines get the PAC file and can't reach the port that it names")
	}
	return p, nil
}

// listenPAC binds the address of the file. Where the SOCKS port has all addresses of IPv4 and none
// of IPv6, the file can't name the one that a browser has reached over IPv6: then its port has none
// either.
func listenPAC(address string, socks *net.TCPAddr) (net.Listener, error) {
	only4 := socks.IP.IsUnspecified() && socks.IP.To4() != nil
	host, port, _ := net.SplitHostPort(address)
	misfit := exit.Usagef("give --pac an IPv4 address, or --socks [::]:PORT for both versions",
		"browsers that get the PAC file over IPv6 can't reach the port of --socks at %s", socks)
	if addr, err := netip.ParseAddr(host); only4 && err == nil && addr.Is6() {
		return nil, misfit
	}
	ln := passedListener(address)
	if only4 && host == "" {
		address = net.JoinHostPort("0.0.0.0", port)
	}
	if ln == nil {
		var err error
		if ln, err = listen(address); err != nil {
			return nil, cannotListen(address, "give another port with --pac", err)
		}
	}
	if only4 && ln.Addr().(*net.TCPAddr).IP.To4() == nil { // a name's, or a socket that was passed
		ln.Close()
		return nil, misfit
	}
	return ln, nil
}

// ownNames returns the names by which browsers get the file: that in the address of --pac, if it is
// one, and the machine's.
func ownNames(address string) []string {
	names := []string{"localhost"}
	if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
		names = append(names, plainHost(host))
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, plainHost(host))
	}
	return names
}

// plainHost returns the form in which names of hosts are compared.
func plainHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// isOwnHost reports whether a request's Host is an address or a name of this machine. With any
// other name, a web page may have made it lead here, to read the hosts of --pac-direct (DNS
// rebinding). Only HTTP/1.0 requests have none, which browsers don't send.
func (p *pac) isOwnHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = plainHost(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	return slices.Contains(p.names, host)
}

// url is where browsers get the file.
func (p *pac) url() string { return "http://" + p.listener.Addr().String() + pacPath }

// serve serves the file until ctx is done. It returns an error if the listener breaks.
func (p *pac) serve(ctx context.Context) error {
	server := &http.Server{
		Handler:        httplog.Recover(p.log, p),
		ReadTimeout:    pacTimeout,
		WriteTimeout:   pacTimeout,
		IdleTimeout:    pacTimeout,
		MaxHeaderBytes: pacMaxHeader,
		ErrorLog:       httplog.New(p.log),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	accepting := netfault.NewListener(p.listener, netfault.LogPauses(p.log))
	err := server.Serve(netutil.LimitListener(accepting, pacMaxConns))
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP answers with the file.
func (p *pac) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !p.isOwnHost(r.Host):
		http.Error(w, "this machine has another name: use its address",
			http.StatusMisdirectedRequest)
		return
	case r.URL.Path != pacPath:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	proxy := *p.socks
	if proxy.IP.IsUnspecified() { // take the address at which the client reached this port
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			proxy.IP, proxy.Zone = local.IP, ""
		}
	}
	w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	w.Header().Set("Cache-Control", "no-cache") // the port may change
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprint(w, pacFile(p.direct, pacProxies(proxy.String(), p.auth)))
}

// pacProxies lists ways to use the port, the best first; a client takes the first that it supports.
// After a failure Chromium and Firefox try the next, and wait again for a target that doesn't
// answer. They take an HTTP proxy's answer for final, and show its text for http://, so that comes
// first. "SOCKS" is not among them: to some clients it is version 4, with which they resolve names
// themselves. Browsers ask their user for the password of an HTTP proxy, and most can't give one to
// SOCKS5.
func pacProxies(address string, auth bool) string {
	if auth {
		return "PROXY " + address
	}
	return "PROXY " + address + "; SOCKS5 " + address
}

// pacFile returns the JavaScript of a PAC file:
// https://developer.mozilla.org/docs/Web/HTTP/Proxy_servers_and_tunneling.
func pacFile(direct []string, proxies string) string {
	var b strings.Builder
	b.WriteString("function FindProxyForURL(url, host) {\n")
	if len(direct) > 0 {
		b.WriteString("  host = host.toLowerCase()" +
			".replace(/\\.$/, \"\").replace(/^\\[(.*)\\]$/, \"$1\");\n" +
			"  var literal = /^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$/.test(host);\n" +
			"  if (" + strings.Join(direct, " ||\n      ") + ") {\n" +
			"    return \"DIRECT\";\n  }\n")
	}
	b.WriteString("  return " + quoteJS(proxies) + ";\n}\n")
	return b.String()
}
