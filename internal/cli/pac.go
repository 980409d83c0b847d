package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

const (
	pacPath = "/proxy.pac"

	// pacTimeout bounds one request for the PAC file, and how long a connection may be idle.
	pacTimeout = 10 * time.Second

	// pacMaxHeader bounds the header of such a request in bytes.
	pacMaxHeader = 16 << 10
)

// pac serves a proxy auto-configuration file, which sends a browser to the SOCKS port but for the hosts that it is to
// reach directly. The file never has it fall back to a direct connection.
type pac struct {
	listener net.Listener
	socks    *net.TCPAddr
	auth     bool     // the SOCKS port wants a password
	direct   []string // conditions in JavaScript
	log      zerolog.Logger
}

// parseDirect makes a condition in JavaScript of a pattern for hosts: a name in which * and ? stand for other characters,
// an address, or a range of IPv4 addresses. A name is never resolved to see whether its address is in such a range: that
// would tell the names that the browser visits, and the near end may not know them.
func parseDirect(pattern string) (string, error) {
	fail := func(why string) (string, error) {
		return "", usage("it is a host, such as *.example.org, or a range of addresses, such as 10.0.0.0/8", "bad --pac-direct %q: %s", pattern, why)
	}
	if strings.Contains(pattern, "/") {
		prefix, err := netip.ParsePrefix(pattern)
		if err != nil || !prefix.Addr().Is4() {
			return fail("no range of IPv4 addresses")
		}
		mask := net.CIDRMask(prefix.Bits(), 32)
		return fmt.Sprintf("literal && isInNet(host, %s, %s)", quoteJS(prefix.Masked().Addr().String()), quoteJS(net.IP(mask).String())), nil
	}
	host := strings.ToLower(strings.TrimSuffix(pattern, "."))
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "host === " + quoteJS(addr.String()), nil
	}
	if host == "" {
		return fail("it is empty")
	}
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.*?") != "" {
		return fail("a name holds letters of ASCII, digits, - and dots; others have an ASCII form, which begins with xn--")
	}
	if strings.ContainsAny(host, "*?") {
		return "shExpMatch(host, " + quoteJS(host) + ")", nil
	}
	return "host === " + quoteJS(host), nil
}

// quoteJS writes a string literal. JSON's are JavaScript's, since encoding/json escapes U+2028 and U+2029, which only newer
// versions of the language allow in one.
func quoteJS(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("cli: a string has no JSON: " + err.Error())
	}
	return string(b)
}

// openPAC binds the address of --pac.
func openPAC(address string, direct []string, socks net.Listener, auth bool, log zerolog.Logger) (*pac, error) {
	p := &pac{auth: auth, log: log}
	for _, pattern := range direct {
		condition, err := parseDirect(pattern)
		if err != nil {
			return nil, err
		}
		p.direct = append(p.direct, condition)
	}
	var ok bool
	if socks == nil {
		return nil, usage("leave one of them out", "--pac sends browsers to the port of --socks, which is turned off")
	} else if p.socks, ok = socks.Addr().(*net.TCPAddr); !ok {
		return nil, usage("give --socks HOST:PORT", "--pac sends browsers to the port of --socks, and they know no unix sockets")
	}
	if strings.HasPrefix(address, "unix:") {
		return nil, usage("give --pac HOST:PORT", "browsers can't get a PAC file from a unix socket")
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, cannotListen(address, "--pac", "give another address with --pac", err)
	}
	p.listener = ln
	if p.socks.IP.IsLoopback() && !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		log.Warn().Stringer("pac", ln.Addr()).Stringer("socks", p.socks).Msg("other machines get the PAC file and can't reach the port that it names")
	}
	return p, nil
}

// url is where browsers get the file.
func (p *pac) url() string { return "http://" + p.listener.Addr().String() + pacPath }

// serve serves the file until ctx is done. A listener that breaks by itself is an error.
func (p *pac) serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: pacTimeout,
		WriteTimeout:      pacTimeout,
		IdleTimeout:       pacTimeout,
		MaxHeaderBytes:    pacMaxHeader,
		ErrorLog:          stdlog.New(p.log, "", 0),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP answers with the file.
func (p *pac) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != pacPath:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	proxy := *p.socks
	if proxy.IP.IsUnspecified() { // any of the machine's addresses will do, and the client has reached this one
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			proxy.IP, proxy.Zone = local.IP, ""
		}
	}
	w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	w.Header().Set("Cache-Control", "no-cache") // the port may be another one the next time
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprint(w, pacFile(p.direct, pacProxies(proxy.String(), p.auth)))
}

// pacProxies lists ways to use the port, the best first; a client takes the first that it knows. "SOCKS" is not among them:
// to some it is version 4, for which they resolve names themselves. Browsers ask their user for the password of an HTTP
// proxy, and most can't give one to SOCKS5.
func pacProxies(address string, auth bool) string {
	if auth {
		return "PROXY " + address
	}
	return "SOCKS5 " + address + "; PROXY " + address
}

// pacFile is the JavaScript of a PAC file: https://developer.mozilla.org/docs/Web/HTTP/Proxy_servers_and_tunneling.
func pacFile(direct []string, proxies string) string {
	var b strings.Builder
	b.WriteString("function FindProxyForURL(url, host) {\n")
	if len(direct) > 0 {
		b.WriteString("  host = host.toLowerCase().replace(/\\.$/, \"\").replace(/^\\[(.*)\\]$/, \"$1\");\n" +
			"  var literal = /^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$/.test(host);\n" +
			"  if (" + strings.Join(direct, " ||\n      ") + ") {\n    return \"DIRECT\";\n  }\n")
	}
	b.WriteString("  return " + quoteJS(proxies) + ";\n}\n")
	return b.String()
}
