package tunnel

import (
	"context"
	"encoding/base64"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
)

// ParseFallback reads the URL of a web site for RemoteConfig.Fallback.
func ParseFallback(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not the http:// or https:// URL of a site")
	}
	return u, nil
}

// fallback passes requests that are not for the tunnel on to another site.
type remoteFallback struct {
	proxy     httputil.ReverseProxy
	transport *http.Transport
	places    chan struct{} // a token for each request that is under way
}

func newRemoteFallback(site *url.URL, log zerolog.Logger) *remoteFallback {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: fallbackHeaderTimeout}).DialContext,
		ResponseHeaderTimeout: fallbackHeaderTimeout,
		TLSHandshakeTimeout:   fallbackHeaderTimeout,
		IdleConnTimeout:       fallbackIdle,
		MaxIdleConnsPerHost:   fallbackIdleConns,
		DisableCompression:    true, // a visitor gets what the site sends
	}
	return &remoteFallback{
		transport: transport,
		places:    make(chan struct{}, maxFallback),
		proxy: httputil.ReverseProxy{
			Transport: transport,
			ErrorLog:  stdlog.New(log, "", 0),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(site)
				r.SetXForwarded()
			},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				if r.Context().Err() == nil {
					log.Warn().Err(err).Msg("the fallback site can't be reached")
				}
				w.WriteHeader(http.StatusBadGateway)
			},
		},
	}
}

// serve answers a request with what the site answers. It returns when ctx is done at the latest.
func (f *remoteFallback) serve(ctx context.Context, w http.ResponseWriter, request *http.Request) {
	select {
	case f.places <- struct{}{}:
		defer func() { <-f.places }()
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	bounded, cancel := context.WithTimeout(request.Context(), fallbackTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	f.proxy.ServeHTTP(w, request.WithContext(bounded))
}

// isUpgrade says that package protocol would upgrade the request (RFC 6455, section 4.2.1). Any other would be answered
// with an error that no ordinary site has.
func isUpgrade(request *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(request.Header.Get("Sec-Websocket-Key"))
	return request.Method == http.MethodGet && websocket.IsWebSocketUpgrade(request) &&
		request.Header.Get("Sec-Websocket-Version") == "13" && err == nil && len(key) == 16
}
