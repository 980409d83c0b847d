package certs

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// CA is a certificate authority: its own certificate and the secret key that it signs with. It
// never changes, so that goroutines may share it. Printing, logging or marshalling one shows its
// name only.
type CA struct {
	cert   *Certificate
	secret func() ed25519.PrivateKey // a function for the reason that KeyPair's is
}

// NewCA makes a CA with a fresh key from rand: a certificate of TypeSelf with the name, valid until
// expires. An error about the arguments is a *RequestError.
func NewCA(rand io.Reader, name string, now, expires time.Time) (*CA, error) {
	if problem := textProblem(name, maxCANameLength); problem != "" {
		return nil, &RequestError{Field: "Name", Problem: problem}
	}
	if !expires.After(now) {
		return nil, &RequestError{Field: "Expires", Problem: "is in the past"}
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("read randomness for a key: %w", err)
	}
	secret := ed25519.NewKeyFromSeed(seed)
	ca := &CA{secret: func() ed25519.PrivateKey { return secret }}

	desc := &object{}
	desc.set("version", certVersion)
	desc.set("type", string(TypeSelf))
	desc.set("ca", name)
	desc.set("tte", float64(expires.UnixMilli()))
	desc.set("publickey", numbers(secret[ed25519.SeedSize:]))
	cert, err := ca.sign(rand, now, desc)
	if err != nil {
		return nil, err
	}
	ca.cert = cert
	return ca, nil
}

// Certificate returns the CA's own certificate, the one to hand out.
func (ca *CA) Certificate() *Certificate { return ca.cert }

// String names the CA.
func (ca CA) String() string {
	if ca.cert == nil {
		return "CA()"
	}
	return fmt.Sprintf("CA(%q)", ca.cert.CA())
}

// GoString returns what String does.
func (ca CA) GoString() string { return ca.String() }

// Format prints what String does, whatever the verb.
func (ca CA) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, ca.String()) }

// MarshalText returns what String does, and so encoding/json prints that too: a CA goes to a file
// by WriteFile and in no other way.
func (ca CA) MarshalText() ([]byte, error) { return []byte(ca.String()), nil }

// Request is what a CA is asked to vouch for.
type Request struct {
	PublicKey PublicKey

	// Names are host names. Each covers itself and the names below it. The reference takes them for
	// unanchored regular expressions, and so accepts more than VerifyHost does.
	Names []string

	// IPs are addresses in text, without a zone. They are written in their canonical form, since
	// the reference compares them as text; one of the form ::ffff:192.0.2.1 stays so, as Node shows
	// an IPv4 peer of an IPv6 socket.
	IPs []string

	// MACs are hardware addresses. They are signed as given, and neither end checks them.
	MACs []string

	// Use is the end that the certificate is for. The reference ignores it.
	Use Use

	// Expires must be in the future and not after the CA's. Fractions of a millisecond are dropped.
	Expires time.Time
}

// Issue makes a certificate of TypeCA. Its gid is a random UUID from rand. An error is a
// *RequestError for what is wrong with the request, and a *VerifyError when the CA itself is no
// longer valid or would be outlived.
func (ca *CA) Issue(rand io.Reader, now time.Time, req Request) (*Certificate, error) {
	if err := ca.cert.Verify(VerifyOptions{Now: now}); err != nil {
		return nil, &VerifyError{Reason: ReasonInvalidCA, Err: err}
	}
	if !req.Expires.After(now) {
		return nil, &RequestError{Field: "Expires", Problem: "is in the past"}
	}
	tte := float64(req.Expires.UnixMilli())
	if tte > ca.cert.expires {
		return nil, refuse(ReasonOutlivesCA)
	}
	if req.PublicKey.IsLowOrder() {
		return nil, &RequestError{Field: "PublicKey", Problem: "is of low order"}
	}
	ips, err := canonicalIPs(req.IPs)
	if err != nil {
		return nil, err
	}
	if err := checkList("Names", req.Names); err != nil {
		return nil, err
	}
	if err := checkList("MACs", req.MACs); err != nil {
		return nil, err
	}
	if req.Use != UseAny && req.Use != UseServer && req.Use != UseClient {
		return nil, &RequestError{Field: "Use", Problem: "is unknown"}
	}
	// The members are in the order of the reference's command line; it has no use.
	desc := &object{}
	desc.set("version", certVersion)
	desc.set("type", string(TypeCA))
	desc.set("tte", tte)
	desc.set("publickey", numbers(req.PublicKey[:]))
	desc.set("names", texts(req.Names))
	desc.set("ips", texts(ips))
	desc.set("macs", texts(req.MACs))
	if req.Use != UseAny {
		desc.set("use", string(req.Use))
	}
	desc.set("ca", ca.cert.ca)
	cert, err := ca.sign(rand, now, desc)
	if errors.Is(err, ErrTooLarge) {
		return nil, &RequestError{Field: "Names", Problem: "make a certificate that is too large"}
	}
	return cert, err
}

// sign adds what the reference adds when it signs, and signs.
func (ca *CA) sign(rand io.Reader, now time.Time, desc *object) (*Certificate, error) {
	gid, err := newUUID(rand)
	if err != nil {
		return nil, err
	}
	desc.set("signtime", float64(now.UnixMilli()))
	desc.set("gid", gid)

	sign := &object{}
	sign.set("signature", numbers(ed25519.Sign(ca.secret(), appendJSON(nil, desc))))
	cert := &object{}
	cert.set("desc", desc)
	cert.set("sign", sign)
	return certificateFrom(cert)
}

// newUUID makes a UUID of version 4 (RFC 9562, section 5.4).
func newUUID(rand io.Reader) (string, error) {
	var u [16]byte
	if _, err := io.ReadFull(rand, u[:]); err != nil {
		return "", fmt.Errorf("read randomness for a gid: %w", err)
	}
	u[6] = u[6]&0x0F | 0x40
	u[8] = u[8]&0x3F | 0x80
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
}

// ReferenceProblem returns why clients of the reference fail at a certificate with this name, or
// accept it for hosts that it does not name; "" if they don't. They take names for regular
// expressions, in any place of the host's name.
func ReferenceProblem(name string) string {
	if name == "" {
		return "an empty name matches every host"
	}
	if i := strings.IndexAny(name, "*+?()[]{}^$|\\"); i >= 0 {
		return fmt.Sprintf("%c is special in the regular expressions that they take names for",
			name[i])
	}
	return ""
}

func canonicalIPs(ips []string) ([]string, error) {
	if err := checkList("IPs", ips); err != nil {
		return nil, err
	}
	ips = slices.Clone(ips)
	for i, ip := range ips {
		addr, err := netip.ParseAddr(ip)
		if err != nil || addr.Zone() != "" {
			return nil, &RequestError{Field: "IPs",
				Problem: fmt.Sprintf("has %q, which is not an address", ip)}
		}
		ips[i] = addr.String()
	}
	return ips, nil
}

func checkList(field string, list []string) error {
	if len(list) > maxNames {
		return &RequestError{Field: field, Problem: fmt.Sprintf("has more than %d entries",
			maxNames)}
	}
	for _, s := range list {
		if problem := textProblem(s, maxNameLength); problem != "" {
			return &RequestError{Field: field,
				Problem: fmt.Sprintf("has an entry that %s", problem)}
		}
	}
	return nil
}

// textProblem returns what is wrong with a name, or "". All characters are legal: the format
// carries them, and the reference signs them.
func textProblem(s string, limit int) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > limit:
		return fmt.Sprintf("is longer than %d bytes", limit)
	case !utf8.ValidString(s):
		return "is not UTF-8"
	}
	return ""
}

func numbers(b []byte) []any {
	a := make([]any, len(b))
	for i, c := range b {
		a[i] = float64(c)
	}
	return a
}

func texts(list []string) []any {
	a := make([]any, len(list))
	for i, s := range list {
		a[i] = s
	}
	return a
}
