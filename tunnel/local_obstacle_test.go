package tunnel

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
)

func TestObstacleOf(t *testing.T) {
	t.Parallel()
	status := func(code int, location string, page bool) error {
		refusal := httpRefusal{Code: code, Location: location}
		return &ConnectError{Step: StepUpgrade, Err: &StatusError{httpRefusal: refusal, Page: page}}
	}
	later := &x509.Certificate{NotBefore: time.Now().Add(time.Hour)}
	over := &x509.Certificate{NotBefore: time.Now().Add(-time.Hour)}
	for _, test := range []struct {
		err  error
		want Obstacle
	}{
		{errors.New("anything"), ObstacleNone},
		{status(404, "", true), ObstacleNone},
		{status(200, "", false), ObstacleNone},
		{status(200, "", true), ObstaclePage},
		{status(302, "/login", true), ObstacleRedirect},
		{status(302, "", true), ObstacleNone},
		{status(511, "", true), ObstaclePortal},
		{status(407, "", true), ObstacleProxyAuth},
		{status(401, "", true), ObstacleAuth},
		{&ProxyError{httpRefusal{Code: 407}}, ObstacleProxyAuth},
		{&ProxyError{httpRefusal{Code: 401}}, ObstacleProxyAuth},
		{&ProxyError{httpRefusal{Code: 403}}, ObstacleNone},
		{&StatusError{NoUpgrade: true}, ObstacleUpgrade},
		{ErrNeedsTLS, ObstacleWantsTLS},
		{tls.RecordHeaderError{}, ObstacleNoTLS},
		{x509.CertificateInvalidError{Cert: later, Reason: x509.Expired}, ObstacleClock},
		{x509.CertificateInvalidError{Cert: over, Reason: x509.Expired}, ObstacleNone},
	} {
		if got := ObstacleOf(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}

func TestRedirectOf(t *testing.T) {
	t.Parallel()
	from, err := ParseAddress("ws://exit.example.org/t")
	if err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]Redirect{
		"/t/":                           {"ws://exit.example.org/t/", true, false},
		"https://exit.example.org/t":    {"https://exit.example.org/t", true, true},
		"http://portal.example/login":   {"http://portal.example/login", false, false},
		"//other.example:8443/":         {"ws://other.example:8443/", false, false},
		"http://[::1":                   {"http://[::1", false, false},
		"https://exit.example.org:8/t?": {"https://exit.example.org:8/t?", true, true},
	} {
		got := RedirectOf(&StatusError{httpRefusal: httpRefusal{Code: 307, Location: location}}, from)
		if got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", location, got, want)
		}
	}
	if got := RedirectOf(&StatusError{httpRefusal: httpRefusal{Code: 404}}, from); got != nil {
		t.Errorf("no redirect: %+v", got)
	}
}

func TestSkewOf(t *testing.T) {
	t.Parallel()
	asked := time.Date(2026, 11, 26, 12, 0, 0, 700e6, time.UTC)
	came := asked.Add(500 * time.Millisecond)
	for date, want := range map[string]time.Duration{
		"Thu, 26 Nov 2026 11:59:59 GMT": -700 * time.Millisecond,
		"Thu, 26 Nov 2026 12:00:00 GMT": 0,
		"Thu, 26 Nov 2026 12:00:01 GMT": 0,
		"Thu, 26 Nov 2026 12:00:02 GMT": 800 * time.Millisecond,
		"Thu, 26 Nov 2026 13:00:02 GMT": time.Hour + 800*time.Millisecond,
	} {
		if got, known := skewOf(http.Header{"Date": {date}}, asked, came); !known || got != want {
			t.Errorf("%s: %v, %t, want %v", date, got, known, want)
		}
	}
	for _, header := range []http.Header{{}, {"Date": {"today"}}} {
		if got, known := skewOf(header, asked, came); known {
			t.Errorf("%v: %v", header, got)
		}
	}
}

// startAhead puts a proxy in front of a remote that makes its clock seem to be ahead, and returns
// the proxy's address.
func startAhead(t *testing.T, remote *testRemote, ahead time.Duration) Address {
	t.Helper()
	site, err := url.Parse(remote.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(site)
	proxy.ModifyResponse = func(r *http.Response) error {
		date, err := http.ParseTime(r.Header.Get("Date"))
		r.Header.Set("Date", date.Add(ahead).Format(http.TimeFormat))
		return err
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	address, err := ParseAddress(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestClockSkew compares the clocks of both ends by the response to the upgrade.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		cfg := remote.localConfig(t, key)
		cfg.Address = startAhead(t, remote, ahead)
		var skew *time.Duration
		cfg.OnProgress = func(p Progress) {
			if p.Step == StepUpgrade {
				skew = p.Skew
			}
		}
		if _, _, err := Connect(testnet.Within(t, patience), cfg); err != nil {
			t.Fatal(err)
		}
		// The clock is read once a second, and the machine may be busy.
		if skew == nil || (*skew-ahead).Abs() > 30*time.Second {
			t.Errorf("%v ahead: %v", ahead, skew)
		}
	}
}

// TestClockError blames the clocks for a certificate that has expired, where they differ.
func TestClockError(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca, err := certs.NewCA(bytes.NewReader(randomBytes(t, 1024)), "test CA", now.Add(-2*time.Hour),
		now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	remote := startRemote(t, RemoteTrust{Anyone: true}, func(cfg *RemoteConfig) {
		cfg.Identity.Cert, err = ca.Issue(bytes.NewReader(randomBytes(t, 1024)), now.Add(-2*time.Hour),
			certs.Request{
				PublicKey: cfg.Identity.Key.Public(), IPs: []string{"127.0.0.1"},
				Expires: now.Add(-time.Minute),
			})
	})
	if err != nil {
		t.Fatal(err)
	}
	for ahead, want := range map[time.Duration]bool{0: false, -time.Hour: true} {
		cfg := remote.localConfig(t, newKey(t))
		cfg.CA = ca.Certificate()
		cfg.VerifyRemote = func(protocol.Peer) error { return nil }
		cfg.Address = startAhead(t, remote, ahead)
		_, _, err := Connect(testnet.Within(t, patience), cfg)
		if !IsIdentityError(err) || errors.As(err, new(*ClockError)) != want ||
			(ObstacleOf(err) == ObstacleClock) != want {
			t.Errorf("%v ahead: %v", ahead, err)
		}
	}
}
