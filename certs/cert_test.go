package certs

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

func TestParseCertificateRefuses(t *testing.T) {
	ca := newCA(t, "test")
	good := string(signed(t, ca, descOf()))
	edit := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	if _, err := ParseCertificate([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"nothing":             "",
		"no JSON":             "certificate",
		"byte order mark":     "\uFEFF" + good,
		"two":                 good + good,
		"null":                "null",
		"array":               "[" + good + "]",
		"no desc":             `{"sign":{}}`,
		"desc is text":        `{"desc":"x","sign":{}}`,
		"desc is an array":    `{"desc":[],"sign":{}}`,
		"no sign":             edit(`,"sign":`, `,"sine":`),
		"no signature":        edit(`"signature"`, `"Signature"`),
		"signature is text":   edit(`"signature":[`, `"signature":"x","y":[`),
		"63 bytes":            regexp.MustCompile(`,\d+\]\}\}$`).ReplaceAllString(good, "]}}"),
		"65 bytes":            edit(`]}}`, `,1]}}`),
		"no publickey":        edit(`"publickey"`, `"publicKey"`),
		"31 bytes":            edit(`[9,1,`, `[9,`),
		"33 bytes":            edit(`[9,1,`, `[9,9,1,`),
		"byte 256":            edit(`[9,1,`, `[256,1,`),
		"byte -1":             edit(`[9,1,`, `[-1,1,`),
		"byte 1.5":            edit(`[9,1,`, `[1.5,1,`),
		"byte in text":        edit(`[9,1,`, `["9",1,`),
		"byte null":           edit(`[9,1,`, `[null,1,`),
		"byte true":           edit(`[9,1,`, `[true,1,`),
		"byte infinite":       edit(`[9,1,`, `[1e999,1,`),
		"byte array":          edit(`[9,1,`, `[[9],1,`),
		"bytes in an object":  edit(`[9,1,`, `{"0":9},"x":[1,`),
		"no version":          edit(`"version":"1.0",`, ``),
		"version as a number": edit(`"1.0"`, `1.0`),
		"no type":             edit(`"type":"ca",`, ``),
		"type as a number":    edit(`"type":"ca"`, `"type":1`),
		"no tte":              edit(`"tte"`, `"ttf"`),
		"tte as text":         edit(`"tte":`, `"tte":"9999999999999","x":`),
		"tte infinite":        edit(`"tte":`, `"tte":1e999,"x":`),
		"tte null":            edit(`"tte":`, `"tte":null,"x":`),
		"later tte infinite":  edit(`"names"`, `"tte":1e999,"names"`),
		"names as text":       edit(`["a.com"]`, `"a.com"`),
		"names of numbers":    edit(`["a.com"]`, `[1]`),
		"names in an object":  edit(`["a.com"]`, `{"0":"a.com","length":1}`),
		"ips as text":         edit(`["10.0.0.1"]`, `"10.0.0.1"`),
		"ips false":           edit(`["10.0.0.1"]`, `false`),
		"macs as text":        edit(`"macs":[]`, `"macs":"x"`),
		"too large": edit(`"macs":[]`,
			`"macs":["`+strings.Repeat("x", MaxCertificateSize)+`"]`),
		"too large when parsed": edit(`"macs":[]`, `"x":[`+strings.Repeat("1e20,", 6000)+`1]`),
		"too deep": edit(`"macs":[]`,
			`"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)),
	} {
		if name != "nothing" && bad == good {
			t.Errorf("%s: nothing was changed", name)
		}
		if c, err := ParseCertificate([]byte(bad)); !errors.Is(err, ErrMalformedCertificate) ||
			c != nil {
			t.Errorf("%s: got %v, %v", name, c, err)
		} else if strings.HasPrefix(name, "too large") != errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ParseCertificate([]byte(`{"cert":` + good + `,"secretkey":[1,2]}`)); err == nil ||
		!strings.Contains(err.Error(), "key file") {
		t.Errorf("a CA's key file for a certificate: %v", err)
	}
}

func TestParseCertificateAccepts(t *testing.T) {
	ca := newCA(t, "test")
	for name, desc := range map[string]string{
		"nulls": descOf(`["a.com"]`, `null`, `["10.0.0.1"]`, `null`, `"macs":[]`,
			`"macs":null`),
		"absent":         descOf(`"names":["a.com"],"ips":["10.0.0.1"],"macs":[],`, ``),
		"integers spelt": descOf(`[9,1,`, `[0.9e1,1.0,`),
		"last of two": descOf(`"version":"1.0"`, `"version":"7","tte":1`, `"names"`,
			`"version":"1.0","names"`),
		"odd gid and time": descOf(`"gid":"d2f971fc-98ad-4dea-ada2-74ebc129ed99"`, `"gid":7`,
			`"signtime":`, `"signtime":"x","y":`),
	} {
		c := parse(t, signed(t, ca, desc))
		if err := c.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := parse(t, signed(t, ca, descOf(`"names":["a.com"]`, `"names":["\ud800\ud801"]`,
		`"signtime":`, `"signtime":1e300,"z":`)))
	if got := c.Names(); !slices.Equal(got, []string{"\uFFFD"}) || !utf8.ValidString(got[0]) {
		t.Errorf("surrogates alone are shown as %q", got)
	}
	got := c.SignedAt()
	if _, err := got.MarshalText(); err != nil || got.Year() != 9999 {
		t.Errorf("a time without bounds is %v: %v", got, err)
	}
	if parse(t, signed(t, ca, descOf(`"signtime"`, `"signtimf"`))).SignedAt() != (time.Time{}) {
		t.Error("an absent time is not the zero time")
	}
}

// TestJSONDropsWhatIsNotSigned: nobody vouches for members other than desc and signature.
func TestJSONDropsWhatIsNotSigned(t *testing.T) {
	ca := newCA(t, "test")
	plain := signed(t, ca, descOf())
	more := bytes.Replace(plain, []byte(`"sign":{`), []byte(`"note":"hi", "sign" : {"by":"me",`), 1)
	if got := parse(t, more).JSON(); !bytes.Equal(got, parse(t, plain).JSON()) ||
		bytes.Contains(got, []byte("hi")) {
		t.Errorf("printed as %s", got)
	}
}

// allBits are the changes to a byte in which one bit flips; fewBits are some of them, including the
// one that turns white space into other white space, and the one that changes a letter's case.
const (
	allBits = "\x01\x02\x04\x08\x10\x20\x40\x80"
	fewBits = "\x01\x04\x20"
)

// TestTamper changes each byte of certificates' files, and of the CA's, in several ways. What is
// still accepted must mean the same.
func TestTamper(t *testing.T) {
	ca := newCA(t, `A "quoted" <CA> & é`)
	c := issue(t, ca, func(r *Request) { r.Names = []string{"a.com", "é\u2028😀\\\"\n"} })
	var indented bytes.Buffer
	if err := json.Indent(&indented, c.JSON(), "\t", "\t"); err != nil {
		t.Fatal(err)
	}
	escaped := bytes.ReplaceAll(c.JSON(), []byte("é"), []byte(`\u00e9`))
	for name, file := range map[string][]byte{
		"plain": c.JSON(), "indented": indented.Bytes(), "escaped": escaped,
	} {
		flips := fewBits
		if name == "plain" {
			flips = allBits
		}
		same := tamper(t, name, file, flips, func(b []byte) error {
			c, err := ParseCertificate(b)
			if err == nil {
				err = c.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow})
			}
			return err
		})
		if (name == "plain") != (same == 0) {
			t.Errorf("%s: %d changes left the meaning as it was", name, same)
		}
	}
	tamper(t, "CA", ca.Certificate().JSON(), fewBits, func(b []byte) error {
		changed, err := ParseCertificate(b)
		if err == nil {
			err = c.Verify(VerifyOptions{CA: changed, Now: testNow})
		}
		return err
	})
}

// tamper returns how many of the changes were accepted, all of them without effect on the JSON's
// meaning.
func tamper(
	t *testing.T, name string, file []byte, flips string, verify func([]byte) error,
) (same int) {
	t.Helper()
	if err := verify(file); err != nil {
		t.Fatalf("%s, unchanged: %v", name, err)
	}
	meaning, err := canonical(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range file {
		for _, flip := range []byte(flips) {
			changed := bytes.Clone(file)
			changed[i] ^= flip
			if verify(changed) != nil {
				continue
			}
			if got, err := canonical(changed); err != nil || !bytes.Equal(got, meaning) {
				t.Errorf("%s: accepted with byte %d changed from %q to %q", name, i, file[i],
					changed[i])
			}
			same++
		}
	}
	return same
}

func TestIssueShape(t *testing.T) {
	// All randomness is the byte 7, so that every byte of a CA and of its certificate is known but
	// the signatures.
	sevens := bytes.NewReader(bytes.Repeat([]byte{7}, 1000))
	now := time.UnixMilli(1700000000000)
	ca, err := NewCA(sevens, "é\"<", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	key := ca.Certificate().publicKey
	keyText := string(AppendByteArray(nil, key[:]))
	want := "{\"version\":\"1.0\",\"type\":\"self\",\"ca\":\"é\\\"<\",\"tte\":1700003600000," +
		"\"publickey\":" + keyText +
		",\"signtime\":1700000000000,\"gid\":\"07070707-0707-4707-8707-070707070707\"}"
	if got := string(ca.Certificate().desc); got != want {
		t.Errorf("a CA's desc\n got %s\nwant %s", got, want)
	}
	c, err := ca.Issue(sevens, now, Request{PublicKey: PublicKey{9}, Names: []string{"a.com"},
		Expires: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	want = "{\"version\":\"1.0\",\"type\":\"ca\",\"tte\":1700000060000,\"publickey\":[9" +
		strings.Repeat(",0", 31) +
		"],\"names\":[\"a.com\"],\"ips\":[],\"macs\":[],\"ca\":\"é\\\"<\"," +
		"\"signtime\":1700000000000," +
		"\"gid\":\"07070707-0707-4707-8707-070707070707\"}"
	if got := string(c.desc); got != want {
		t.Errorf("a certificate's desc\n got %s\nwant %s", got, want)
	}
	if !strings.HasPrefix(string(c.JSON()), `{"desc":`+want+`,"sign":{"signature":[`) {
		t.Errorf("a certificate is printed as %s", c.JSON())
	}
	v4 := regexp.MustCompile(
		`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 20 {
		gid := issue(t, newCA(t, "x"), nil).GID()
		if !v4.MatchString(gid) || seen[gid] {
			t.Errorf("gid %q", gid)
		}
		seen[gid] = true
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := newCA(t, "test")
	long := func(n int) []string {
		return slices.Repeat([]string{strings.Repeat("x", maxNameLength)}, n)
	}
	for name, tt := range map[string]struct {
		edit  func(*Request)
		field string
	}{
		"no time":          {func(r *Request) { r.Expires = time.Time{} }, "Expires"},
		"expired":          {func(r *Request) { r.Expires = testNow }, "Expires"},
		"zero key":         {func(r *Request) { r.PublicKey = PublicKey{} }, "PublicKey"},
		"key of low order": {func(r *Request) { r.PublicKey = lowOrder8 }, "PublicKey"},
		"empty name":       {func(r *Request) { r.Names = []string{"a", ""} }, "Names"},
		"long name": {func(r *Request) {
			r.Names = []string{strings.Repeat("x", maxNameLength+1)}
		}, "Names"},
		"name not UTF-8": {func(r *Request) { r.Names = []string{"\xed\xa0\x80"} }, "Names"},
		"many names": {func(r *Request) {
			r.Names = slices.Repeat([]string{"a"}, maxNames+1)
		}, "Names"},
		"all too long": {func(r *Request) {
			r.Names, r.MACs = long(maxNames), long(maxNames)
		}, "Names"},
		"no address":    {func(r *Request) { r.IPs = []string{"10.0.0.1", "a.com"} }, "IPs"},
		"a network":     {func(r *Request) { r.IPs = []string{"10.0.0.0/8"} }, "IPs"},
		"a zone":        {func(r *Request) { r.IPs = []string{"fe80::1%eth0"} }, "IPs"},
		"empty address": {func(r *Request) { r.IPs = []string{""} }, "IPs"},
		"empty MAC":     {func(r *Request) { r.MACs = []string{""} }, "MACs"},
		"unknown use":   {func(r *Request) { r.Use = "Server" }, "Use"},
	} {
		req := Request{PublicKey: PublicKey{9}, Expires: testNow.Add(time.Hour)}
		tt.edit(&req)
		c, err := ca.Issue(rand.Reader, testNow, req)
		var refusal *RequestError
		if !errors.As(err, &refusal) || refusal.Field != tt.field || c != nil {
			t.Errorf("%s: got %v, %v, want an error about %s", name, c, err, tt.field)
		}
	}
	req := Request{PublicKey: PublicKey{9}, Expires: testNow.Add(24*time.Hour + time.Millisecond)}
	_, err := ca.Issue(rand.Reader, testNow, req)
	wantReason(t, "a millisecond too long", err, ReasonOutlivesCA)
	_, err = ca.Issue(rand.Reader, testNow.Add(25*time.Hour), req)
	wantReason(t, "a CA that has expired", err, ReasonInvalidCA)
	broken := errors.New("broken")
	req.Expires = testNow.Add(time.Hour)
	if _, err := ca.Issue(iotest.ErrReader(broken), testNow, req); !errors.Is(err, broken) {
		t.Errorf("no randomness: %v", err)
	}
	for name, ca := range map[string]string{
		"": "empty", strings.Repeat("x", maxCANameLength+1): "long", "\xff": "not UTF-8",
	} {
		var refusal *RequestError
		_, err := NewCA(rand.Reader, name, testNow, testNow.Add(time.Hour))
		if !errors.As(err, &refusal) || refusal.Field != "Name" {
			t.Errorf("a CA name that is %s: %v", ca, err)
		}
	}
	if _, err := NewCA(rand.Reader, "x", testNow, testNow); err == nil {
		t.Error("a CA that is born expired")
	}
	if _, err := NewCA(iotest.ErrReader(broken), "x", testNow,
		testNow.Add(1e9)); !errors.Is(err, broken) {
		t.Errorf("a CA without randomness: %v", err)
	}
}

// FuzzParseCertificate checks that the printed form of a certificate is accepted and prints the
// same.
func FuzzParseCertificate(f *testing.F) {
	ca := newCA(f, "test")
	f.Add(ca.Certificate().JSON())
	f.Add(issue(f, ca, nil).JSON())
	for _, desc := range []string{
		descOf(), descOf(`["a.com"]`, `["\ud800","\u2028é😀<>&\"\\"]`),
		descOf(`"macs":[]`, `"9":1,"1":2,"x":1e21,"y":-0`),
		descOf(`"type":"ca"`, `"type":"SELF"`), descOf(`"names"`, `"ca":"\udfff","names"`),
		descOf(`["a.com"]`, `null`),
	} {
		f.Add(signed(f, ca, desc))
	}
	f.Add([]byte(`{"desc":{},"sign":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCertificate(b)
		if err != nil {
			if !errors.Is(err, ErrMalformedCertificate) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		printed := c.JSON()
		if len(printed) > MaxCertificateSize || !json.Valid(printed) || !utf8.Valid(printed) {
			t.Fatalf("printed as %d bytes: %q", len(printed), printed)
		}
		again, err := ParseCertificate(printed)
		if err != nil || !bytes.Equal(again.JSON(), printed) {
			t.Fatalf("printed as %q, which is read as %v, %v", printed, again, err)
		}
		for _, s := range append(append(append(c.Names(), c.IPs()...), c.MACs()...), c.CA(),
			c.GID(), string(c.Type())) {
			if !utf8.ValidString(s) {
				t.Fatalf("%q is no text", s)
			}
		}
		var refusal *VerifyError
		if err := c.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow}); err != nil &&
			!errors.As(err, &refusal) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if own := c.Verify(VerifyOptions{Now: testNow}); own == nil && c.Type() != TypeSelf {
			t.Fatal("verified without a CA")
		}
	})
}
