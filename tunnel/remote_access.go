package tunnel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/policy"
)

// RemoteIdentity is what a Remote presents to its clients.
type RemoteIdentity struct {
	Key  *certs.KeyPair
	Cert *certs.Certificate // enables version 2 of the handshake; must be for Key
}

// RemoteTrust decides which clients a Remote admits. Each condition that is set must hold.
type RemoteTrust struct {
	// Authorized, when set, must list the client's key.
	Authorized *certs.AuthorizedKeys

	// RequireCert demands a certificate issued by CA, which only version 2 of the handshake
	// carries.
	RequireCert bool
	CA          *certs.Certificate
	Revoked     *certs.Revocations

	// Anyone admits every client that meets the conditions above, even when none is set. A web page
	// that a user of the remote's network visits is a client too. So when none is set, a request
	// with an Origin header is refused unless Origins has that origin, as ParseOrigin returns it.
	Anyone  bool
	Origins []string
}

// ErrNobodyAdmitted is the error for a RemoteTrust that would admit nobody.
var ErrNobodyAdmitted = errors.New("no client could be admitted")

// check refuses a RemoteTrust that admits nobody, or that demands certificates of no CA.
func (t *RemoteTrust) check() error {
	if t.RequireCert && t.CA == nil {
		return errors.New("a client certificate is required, but no CA is given")
	}
	if t.Authorized == nil && !t.RequireCert && !t.Anyone {
		return ErrNobodyAdmitted
	}
	return nil
}

var (
	errKeyNotListed = errors.New("key not listed")
	errNoCert       = errors.New("no certificate")
	errOrigin       = errors.New("sent by a web page of an origin that is not admitted")
)

// ParseOrigin parses the origin of a web page in the form in which browsers send it: a scheme, a
// host and a port unless that is the scheme's, or null (RFC 6454, section 6.2).
func ParseOrigin(text string) (string, error) {
	if text == "null" {
		return text, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("not the origin of a web page")
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host, nil
}

// admitsOrigin reports whether the origin of a request doesn't matter, or is admitted.
func (t *RemoteTrust) admitsOrigin(request http.Header) bool {
	if t.Authorized != nil || t.RequireCert {
		return true
	}
	return !slices.ContainsFunc(request.Values("Origin"), func(text string) bool {
		origin, err := ParseOrigin(text)
		return err != nil || !slices.Contains(t.Origins, origin)
	})
}

// admit decides on a client whose certificate, if it presented one, has been verified. Where keys
// are listed, lists reports whether its key is one of them.
func (t *RemoteTrust) admit(peer protocol.Peer, lists func(certs.PublicKey) bool) error {
	if t.RequireCert && peer.Cert == nil {
		return errNoCert
	}
	if t.Authorized != nil && !lists(peer.Key) {
		return errKeyNotListed
	}
	return nil
}

// lists reports whether a key is listed, in a time that doesn't depend on the key: the client may
// be anybody. Keys have to be listed at all.
func (t *RemoteTrust) lists(key certs.PublicKey) bool {
	_, ok := t.Authorized.Lookup(key)
	return ok
}

// remoteAccess is everything that Reload replaces: who is admitted, and what clients may do. It is
// immutable.
type remoteAccess struct {
	identity  RemoteIdentity
	trust     RemoteTrust
	rights    policy.Rights // of clients without a line
	keyRights map[certs.PublicKey]policy.Rights
	comments  map[certs.PublicKey]string // of lines that have one
}

func newRemoteAccess(
	identity RemoteIdentity, trust RemoteTrust, rights policy.Rights,
) (*remoteAccess, error) {
	if err := trust.check(); err != nil {
		return nil, err
	}
	rights.Share = shareDefaults(rights.Share)
	keyRights, err := rights.ForKeys(trust.Authorized)
	if err != nil {
		return nil, err
	}
	comments := make(map[certs.PublicKey]string)
	if trust.Authorized != nil {
		for line := range trust.Authorized.All() {
			if line.Comment != "" {
				comments[line.Key] = line.Comment
			}
		}
	}
	return &remoteAccess{identity, trust, rights, keyRights, comments}, nil
}

// commentOf returns the comment of a client's authorized-keys line, "" if it has none. It takes as
// long for any number of lines, so it is no comparison in constant time: the client has proved its
// key.
func (a *remoteAccess) commentOf(client certs.PublicKey) string { return a.comments[client] }

// readmit decides on a client whose certificate was verified under another RemoteTrust. Like
// commentOf, it is quick.
func (a *remoteAccess) readmit(peer protocol.Peer, now time.Time) error {
	if a.trust.RequireCert && peer.Cert != nil {
		options := certs.VerifyOptions{CA: a.trust.CA, Now: now, Revoked: a.trust.Revoked}
		if err := peer.Cert.Verify(options); err != nil {
			return err
		}
	}
	return a.trust.admit(peer, func(key certs.PublicKey) bool {
		_, listed := a.keyRights[key]
		return listed
	})
}

// rightsOf returns the rights of a client, and whether it has any: where keys are listed, one
// without a line has none.
func (a *remoteAccess) rightsOf(client certs.PublicKey) (policy.Rights, bool) {
	if a.trust.Authorized == nil {
		return a.rights, true
	}
	rights, ok := a.keyRights[client]
	return rights, ok
}

// rulesFor returns the rules for the targets of a client.
func (a *remoteAccess) rulesFor(client certs.PublicKey) remoteRules {
	rights, ok := a.rightsOf(client)
	if !ok {
		return noRights{}
	}
	return rights.Rules
}

// noRights are the rules of a client that may reach nothing.
type noRights struct{}

func (noRights) Resolve(context.Context, string, string, uint16) ([]netip.AddrPort, error) {
	return nil, policy.ErrNotAllowed
}

func (noRights) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, policy.ErrNotAllowed
}

func (noRights) DialUnix(context.Context, string) (net.Conn, error) {
	return nil, policy.ErrNotAllowed
}

// reverseFor returns the rules for what a client may bind, nil for nothing.
func (a *remoteAccess) reverseFor(client certs.PublicKey) *policy.ReverseRules {
	rights, _ := a.rightsOf(client)
	return rights.Reverse
}
