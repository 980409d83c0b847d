package tunnel

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"culvert/internal/bounds"
	"culvert/internal/httplog"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
)

// ParseFallback parses the URL of a web site for RemoteConfig.Fallback.
func ParseFallback(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" ||
		u.Fragment != "" {
		return nil, errors.New("not the http:// or https:// URL of a site")
	}
	return u, nil
}

// remoteFallback passes requests that are not for the tunnel on to another site.
type remoteFallback struct {
	proxy     httputil.ReverseProxy
	transport *http.Transport
	places    *fairPlaces // for requests that are under way
	bounds    *bounds.Counts
}

// newRemoteFallback returns what passes requests on to a site. secure means that visitors come with
// TLS.
func newRemoteFallback(
	site *url.URL, secure bool, log zerolog.Logger, counts *bounds.Counts,
) *remoteFallback {
	unreached := sampled(log)
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: fallbackHeaderTimeout}).DialContext,
		ResponseHeaderTimeout: fallbackHeaderTimeout,
		TLSHandshakeTimeout:   fallbackHeaderTimeout,
		IdleConnTimeout:       fallbackIdle,
		MaxIdleConnsPerHost:   fallbackIdleConns,
		DisableCompression:    true, // pass on what the site sends
	}
	return &remoteFallback{
		transport: transport,
		places: newFairPlaces(maxFallback, sourceFallback, 0).
			counting(counts, bounds.Fallback, bounds.SourceFallback),
		bounds: counts,
		proxy: httputil.ReverseProxy{
			Transport: transport,
			ErrorLog:  httplog.New(log),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(site)
				r.Out.URL.RawQuery = r.In.URL.RawQuery // which only the site knows how to read
				if r.In.RequestURI == "*" {            // of OPTIONS: RFC 9110, section 9.3.7
					r.Out.URL.Path, r.Out.URL.RawPath = "*", ""
				}
				r.SetXForwarded()
				if secure { // which net/http doesn't know
					r.Out.Header.Set("X-Forwarded-Proto", "https")
				}
				if isProxied(r.In) {
					keepForwarded(r.Out.Header, r.In.Header)
				}
			},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				status := http.StatusBadGateway
				if fault := faultOfVisitor(w); fault != nil {
					log.Debug().Err(fault).Msg("a visitor's request didn't arrive")
					status = http.StatusBadRequest
				} else if r.Context().Err() == nil {
					unreached.Warn().Err(err).Msg("the fallback site can't be reached")
				}
				w.WriteHeader(status)
			},
		},
	}
}

// faultOfVisitor returns why the body of a request didn't arrive, nil if that isn't what failed.
func faultOfVisitor(w http.ResponseWriter) error {
	if v, ok := w.(*fallbackVisit); ok {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.fault
	}
	return nil
}

// keepForwarded copies the scheme by which a client has reached a trusted proxy. Proxies append:
// only the last entry is the proxy's own word. Of the host, that word is in the Host field.
func keepForwarded(to, from http.Header) {
	scheme := strings.ToLower(lastOf(from, "X-Forwarded-Proto"))
	if scheme == "http" || scheme == "https" {
		to.Set("X-Forwarded-Proto", scheme)
	}
}

// lastOf returns the last entry of a field that is a list, "" if there is none.
func lastOf(header http.Header, name string) string {
	list := strings.Join(header.Values(name), ",")
	return strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
}

// serve answers a request with the answer of the site. It returns when ctx is done at the latest.
func (f *remoteFallback) serve(
	ctx context.Context, w http.ResponseWriter, request *http.Request, from source,
) {
	bounded, cancel := context.WithTimeout(request.Context(), fallbackTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	place := f.places.take(from, false, cancel)
	defer place.leave()
	if strings.ContainsFunc(request.Header.Get("Upgrade"), isNotPrint) {
		request.Header.Del("Upgrade") // to no protocol; the library would take it for a fault of the site
	}
	v := newFallbackVisit(bounded, w, request, place)
	defer v.end()
	// A request that makes way may still be reading its body, which no context ends.
	defer context.AfterFunc(bounded, v.interrupt)()
	f.proxy.ServeHTTP(v, v.request)
	if errors.Is(bounded.Err(), context.DeadlineExceeded) {
		f.bounds.Refused(bounds.FallbackTime)
	}
}

// isNotPrint reports whether a rune isn't printable ASCII.
func isNotPrint(r rune) bool { return r < ' ' || r > '~' }

// isUpgrade reports whether package protocol would upgrade the request (RFC 6455, section 4.2.1).
// It would answer any other with an error that an ordinary site doesn't have.
func isUpgrade(request *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(request.Header.Get("Sec-Websocket-Key"))
	return request.Method == http.MethodGet && websocket.IsWebSocketUpgrade(request) &&
		request.Header.Get("Sec-Websocket-Version") == "13" && err == nil && len(key) == 16
}
