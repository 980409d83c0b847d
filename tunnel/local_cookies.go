package tunnel

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
)

// localCookies are the cookies with which a load balancer leads each carrier of a session to the
// node that has the session. They are taken only from responses that led to a session with the
// remote, since anybody on a ws:// path can answer otherwise, and are dropped once they have led to
// a node that doesn't know the session.
type localCookies struct {
	mu  sync.Mutex
	jar http.CookieJar
}

func newLocalCookies() *localCookies { return &localCookies{jar: newJar()} }

func newJar() http.CookieJar {
	jar, _ := cookiejar.New(nil) // never fails without options
	return jar
}

// attempt returns the cookies for one attempt to connect.
func (c *localCookies) attempt() *attemptCookies { return &attemptCookies{all: c} }

// attemptCookies is an http.CookieJar for one attempt. It is for a single goroutine.
type attemptCookies struct {
	all     *localCookies
	url     *url.URL       // nil if there was no response with cookies
	offered []*http.Cookie // of the response
}

// Cookies implements http.CookieJar.
func (a *attemptCookies) Cookies(u *url.URL) []*http.Cookie {
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	return a.all.jar.Cookies(u)
}

// SetCookies implements http.CookieJar. It keeps the cookies of any response for accept.
func (a *attemptCookies) SetCookies(u *url.URL, cookies []*http.Cookie) {
	a.url, a.offered = u, cookies
}

// accept takes over the response's cookies, as the attempt has led to a session. If that is not the
// one for which it was made, all earlier cookies are dropped. Cookies that aren't for the remote's
// URL, and those that exceed maxCookies, are ignored.
func (a *attemptCookies) accept(unknownSession bool) {
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	if unknownSession {
		a.all.jar = newJar()
	}
	for _, cookie := range a.offered {
		if !a.isForURL(cookie) || a.sizeLocked()+cookieSize(cookie) > maxCookies {
			continue
		}
		a.all.jar.SetCookies(a.url, []*http.Cookie{cookie})
	}
}

// isForURL reports whether a cookie would be sent to the URL, or removes one that would.
func (a *attemptCookies) isForURL(cookie *http.Cookie) bool {
	present := *cookie
	if cookie.MaxAge < 0 || !cookie.Expires.IsZero() {
		present.MaxAge = 1
	}
	jar := newJar()
	jar.SetCookies(a.url, []*http.Cookie{&present})
	return len(jar.Cookies(a.url)) > 0
}

func (a *attemptCookies) sizeLocked() int {
	size := 0
	for _, cookie := range a.all.jar.Cookies(a.url) {
		size += cookieSize(cookie)
	}
	return size
}

// cookieSize returns what a cookie takes in the header of a request, in bytes: with "=" and "; ".
func cookieSize(cookie *http.Cookie) int { return len(cookie.Name) + len(cookie.Value) + 3 }
