package certs

import (
	"crypto/ed25519"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// VerifyOptions is what a certificate is checked against.
type VerifyOptions struct {
	// CA is the certificate of the CA that must have signed. When it is set, only a certificate of
	// TypeCA passes; when it is nil, only one of TypeSelf, which vouches only for itself.
	CA *Certificate

	// Now is the time to check at; zero means the current time.
	Now time.Time

	// Revoked lists what to refuse, the CA included. Nil means that nothing is revoked.
	Revoked *Revocations
}

// Verify checks time, version, type, CA, signature and revocation, in the reference's order. It
// does not check whom the certificate identifies: VerifyKey, VerifyUse, VerifyHost and VerifyAddr
// do. An error is a *VerifyError.
func (c *Certificate) Verify(opts VerifyOptions) error {
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	if !(c.expires > float64(opts.Now.UnixMilli())) {
		return refuse(ReasonExpired)
	}
	if c.version != certVersion {
		return refuse(ReasonWrongVersion)
	}
	signed := false
	switch {
	case c.certType == TypeSelf && opts.CA == nil:
		signed = c.signedItself()
	case c.certType == TypeCA:
		if err := c.verifyIssuer(opts); err != nil {
			return err
		}
		signed = c.signedBy(opts.CA.publicKey)
	default:
		return refuse(ReasonWrongType)
	}
	if !signed {
		return refuse(ReasonBadSignature)
	}
	return opts.Revoked.check(c)
}

func (c *Certificate) signedBy(key [32]byte) bool {
	return ed25519.Verify(key[:], c.desc, c.signature[:])
}

func (c *Certificate) signedItself() bool {
	c.ownSignature.Do(func() { c.ownSignatureGood = c.signedBy(c.publicKey) })
	return c.ownSignatureGood
}

// verifyIssuer checks the CA itself and that it fits c.
func (c *Certificate) verifyIssuer(opts VerifyOptions) error {
	ca := opts.CA
	if ca == nil {
		return refuse(ReasonWrongCA)
	}
	if err := ca.Verify(VerifyOptions{Now: opts.Now, Revoked: opts.Revoked}); err != nil {
		return &VerifyError{Reason: ReasonInvalidCA, Err: err}
	}
	if c.ca == "" || lowerName(c.ca) != lowerName(ca.ca) {
		return refuse(ReasonWrongCA)
	}
	if c.expires > ca.expires {
		return refuse(ReasonOutlivesCA)
	}
	return nil
}

// VerifyKey checks, in constant time, that the certificate is about the Box key k. An error is a
// *VerifyError.
func (c *Certificate) VerifyKey(k PublicKey) error {
	if own, ok := c.BoxKey(); !ok || !own.Equal(k) {
		return refuse(ReasonWrongKey)
	}
	return nil
}

// VerifyUse checks that the certificate is for this end, or for both. One with an unknown use is
// for none. An error is a *VerifyError.
func (c *Certificate) VerifyUse(use Use) error {
	if c.use != UseAny && c.use != use {
		return refuse(ReasonWrongUse)
	}
	return nil
}

// VerifyHost checks that one of the names is host, or that host is below it: x.a.com is covered by
// a.com, evil-a.com is not. Case does not matter, nor does a trailing dot. Names are never
// patterns, and an IP address is covered only by itself. An error is a *VerifyError.
func (c *Certificate) VerifyHost(host string) error {
	host = lowerHost(strings.TrimSuffix(host, "."))
	for _, name := range c.names {
		if covers(lowerHost(strings.TrimSuffix(name, ".")), host) {
			return nil
		}
	}
	return refuse(ReasonWrongHost)
}

func covers(name, host string) bool {
	if name == "" {
		return false
	}
	if host == name {
		return true
	}
	return strings.HasSuffix(host, "."+name) && !isIP(host) && !isIP(name)
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// VerifyAddr checks that ips lists addr. An IPv4 address is the same when it is mapped into IPv6,
// and a zone is ignored. An error is a *VerifyError.
func (c *Certificate) VerifyAddr(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, ip := range c.ips {
		if listed, err := netip.ParseAddr(ip); err == nil && listed.Unmap() == addr {
			return nil
		}
	}
	return refuse(ReasonWrongAddress)
}

// lowerHost makes lower case of a host name. No other character becomes an ASCII one (as the Kelvin
// sign would become k), so that a name in ASCII is matched by ASCII only.
func lowerHost(s string) string {
	return lower(s, func(dst []byte, r rune) []byte {
		if l := unicode.ToLower(r); r < utf8.RuneSelf || l >= utf8.RuneSelf {
			r = l
		}
		return utf8.AppendRune(dst, r)
	})
}

// lowerName makes lower case as JavaScript's toLowerCase does, for comparison: the one letter whose
// lower case is two (U+0130) is the same as there. A sigma at a word's end is written like any
// other, which makes no two CA names equal that differ in more.
func lowerName(s string) string {
	return lower(s, func(dst []byte, r rune) []byte {
		switch r {
		case 'İ':
			return append(dst, "i\u0307"...)
		case 'ς':
			r = 'σ'
		}
		return utf8.AppendRune(dst, unicode.ToLower(r))
	})
}

// lower maps each character of s, and keeps the bytes of surrogates alone.
func lower(s string, appendLower func([]byte, rune) []byte) string {
	dst := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, s[i])
		} else {
			dst = appendLower(dst, r)
		}
		i += n
	}
	return string(dst)
}
