package certs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// CertType is the kind of a certificate.
type CertType string

// The types that the reference knows. It compares them without case.
const (
	TypeSelf CertType = "self" // a CA, signed by itself
	TypeCA   CertType = "ca"   // a Box key, signed by a CA
)

// Use is the end of a connection that a certificate is for. The reference doesn't know it: there, a
// client's certificate with names is as good as a server's.
type Use string

// The uses. A certificate that has none is for both ends.
const (
	UseAny    Use = ""
	UseServer Use = "server"
	UseClient Use = "client"
)

// certVersion is the only version of certificates.
const certVersion = "1.0"

// Certificate is a parsed certificate. It never changes, so that goroutines may share it. Parsing
// doesn't make it trustworthy; see Verify.
//
// Names, addresses and the like are chosen by the issuer and may hold any character: quote them
// before they reach a terminal or a log.
type Certificate struct {
	version   string
	certType  CertType
	ca        string // in WTF-8, as all strings here
	expires   float64
	signedAt  float64 // 0 when absent
	publicKey [32]byte
	names     []string
	ips       []string
	macs      []string
	gid       string
	use       Use
	desc      []byte // canonical: what the signature is over
	signature [64]byte

	// A CA is verified again in each handshake. Its own signature never changes, so it is checked
	// once.
	ownSignature     sync.Once
	ownSignatureGood bool
}

// ParseCertificate reads a certificate's JSON. Errors wrap ErrMalformedCertificate, and ErrTooLarge
// or a *syntaxError when that is the cause.
func ParseCertificate(b []byte) (*Certificate, error) {
	if len(b) > MaxCertificateSize {
		return nil, fmt.Errorf("%w: %w: more than %d bytes", ErrMalformedCertificate, ErrTooLarge,
			MaxCertificateSize)
	}
	v, err := parseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedCertificate, err)
	}
	return certificateFrom(v)
}

// certificateFrom reads the members that the reference looks at. Where the reference would fail on
// a wrong type, or misread it, the certificate is malformed; members that it never looks at may be
// anything.
func certificateFrom(v any) (*Certificate, error) {
	malformed := func(problem string) (*Certificate, error) {
		return nil, fmt.Errorf("%w: %s", ErrMalformedCertificate, problem)
	}
	top, ok := v.(*object)
	if !ok {
		return malformed("not an object")
	}
	desc, ok := top.get("desc").(*object)
	if !ok {
		if top.get("secretkey") != nil {
			return malformed("this is a key file, with a secret: want the certificate alone")
		}
		return malformed("no desc")
	}
	sign, ok := top.get("sign").(*object)
	if !ok {
		return malformed("no sign")
	}
	c := &Certificate{}
	if !byteArray(c.signature[:], sign.get("signature")) {
		return malformed("signature is not 64 bytes")
	}
	if !byteArray(c.publicKey[:], desc.get("publickey")) {
		return malformed("publickey is not 32 bytes")
	}
	if c.version, ok = desc.get("version").(string); !ok {
		return malformed("no version")
	}
	typ, ok := desc.get("type").(string)
	if !ok {
		return malformed("no type")
	}
	c.certType = CertType(lowerName(typ))
	// JSON.parse turns 1e999 into an infinity, which is printed, and signed, as null: the signature
	// would not cover what was written.
	if c.expires, ok = desc.get("tte").(float64); !ok || math.IsInf(c.expires, 0) {
		return malformed("tte is not a time")
	}
	for key, list := range map[string]*[]string{"names": &c.names, "ips": &c.ips, "macs": &c.macs} {
		if *list, ok = stringArray(desc.get(key)); !ok {
			return malformed(key + " is not an array of strings")
		}
	}
	if use := desc.get("use"); use != nil {
		text, ok := use.(string)
		if !ok {
			return malformed("use is not a string")
		}
		c.use = Use(text)
	}
	// Verification doesn't need these: absent ones stay empty.
	c.ca, _ = desc.get("ca").(string)
	c.gid, _ = desc.get("gid").(string)
	c.signedAt, _ = desc.get("signtime").(float64)

	c.desc = appendJSON(nil, desc)
	if len(c.JSON()) > MaxCertificateSize {
		return nil, fmt.Errorf("%w: %w: more than %d bytes when printed", ErrMalformedCertificate,
			ErrTooLarge,
			MaxCertificateSize)
	}
	return c, nil
}

// byteArray fills dst from an array of exactly as many integers from 0 to 255.
func byteArray(dst []byte, v any) bool {
	a, ok := v.([]any)
	if !ok || len(a) != len(dst) {
		return false
	}
	for i, e := range a {
		f, ok := e.(float64)
		if !ok || f < 0 || f > 255 || f != math.Trunc(f) {
			return false
		}
		dst[i] = byte(f)
	}
	return true
}

// stringArray reads an array of strings; null and absent are none.
func stringArray(v any) ([]string, bool) {
	if v == nil {
		return nil, true
	}
	a, ok := v.([]any)
	if !ok {
		return nil, false
	}
	list := make([]string, len(a))
	for i, e := range a {
		if list[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return list, true
}

// JSON returns {"desc":…,"sign":{"signature":…}} as JSON.stringify prints it, at most
// MaxCertificateSize long: the form for files and for the wire. Unsigned members other than desc
// and signature are dropped.
func (c *Certificate) JSON() []byte {
	b := make([]byte, 0, len(c.desc)+4*len(c.signature)+len(`{"desc":,"sign":{"signature":[]}}`))
	b = append(b, `{"desc":`...)
	b = append(b, c.desc...)
	b = append(b, `,"sign":{"signature":`...)
	b = AppendByteArray(b, c.signature[:])
	return append(b, `}}`...)
}

// AppendByteArray appends bytes as the JSON array of numbers in which keys, signatures and boxes
// are written.
func AppendByteArray(dst, bytes []byte) []byte {
	dst = append(dst, '[')
	for i, c := range bytes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(c), 10)
	}
	return append(dst, ']')
}

// Type returns the type in lower case, which may be an unknown one.
func (c *Certificate) Type() CertType { return CertType(printable(string(c.certType))) }

// CA returns the CA's name: its own for TypeSelf, its issuer's for TypeCA.
func (c *Certificate) CA() string { return printable(c.ca) }

// BoxKey returns the Box key that the certificate is about. A CA's has none.
func (c *Certificate) BoxKey() (PublicKey, bool) {
	if c.certType != TypeCA {
		return PublicKey{}, false
	}
	return PublicKey(c.publicKey), true
}

// Names returns a copy of the host names.
func (c *Certificate) Names() []string { return printables(c.names) }

// IPs returns a copy of the addresses, as written.
func (c *Certificate) IPs() []string { return printables(c.ips) }

// MACs returns a copy of the hardware addresses, as written. Nothing here checks them.
func (c *Certificate) MACs() []string { return printables(c.macs) }

// GID returns the identifier by which the certificate can be revoked, or "".
func (c *Certificate) GID() string { return printable(c.gid) }

// Use returns the end that the certificate is for, which may be an unknown one.
func (c *Certificate) Use() Use { return Use(printable(string(c.use))) }

// Expires returns the first instant at which the certificate is no longer valid.
func (c *Certificate) Expires() time.Time { return timeFrom(c.expires) }

// SignedAt returns the time of signing that the issuer claims, or the zero time.
func (c *Certificate) SignedAt() time.Time {
	if c.signedAt == 0 {
		return time.Time{}
	}
	return timeFrom(c.signedAt)
}

// timeFrom converts milliseconds since 1970, limited to the years that RFC 3339 can write, 0 to
// 9999: "never" is any large number.
func timeFrom(ms float64) time.Time {
	const least, most = -62_167_219_200_000, 253_402_300_799_999
	return time.UnixMilli(int64(max(least, min(most, ms)))).UTC()
}

// printable makes valid UTF-8 of WTF-8.
func printable(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func printables(list []string) []string {
	list = slices.Clone(list)
	for i, s := range list {
		list[i] = printable(s)
	}
	return list
}
