package certs

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// signed makes the JSON of a certificate from any desc, signed by ca.
func signed(t testing.TB, ca *CA, desc string) []byte {
	t.Helper()
	canon, err := canonical([]byte(desc))
	if err != nil {
		t.Fatal(err)
	}
	signature := AppendByteArray(nil, ed25519.Sign(ca.secret(), canon))
	return fmt.Appendf(nil, `{"desc":%s,"sign":{"signature":%s}}`, desc, signature)
}

// parse wants a certificate.
func parse(t testing.TB, b []byte) *Certificate {
	t.Helper()
	c, err := ParseCertificate(b)
	if err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return c
}

// descOf writes a desc of TypeCA for the CA "test"; each replacement old, new changes it.
func descOf(replacements ...string) string {
	desc := fmt.Sprintf(`{"version":"1.0","type":"ca","tte":%d,"publickey":%s,`+
		`"names":["a.com"],"ips":["10.0.0.1"],`+
		`"macs":[],"ca":"test","signtime":%d,"gid":"d2f971fc-98ad-4dea-ada2-74ebc129ed99"}`,
		testNow.Add(time.Hour).UnixMilli(), thirtyTwo, testNow.UnixMilli())
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(desc, replacements[i]) {
			panic("no " + replacements[i] + " in " + desc)
		}
		desc = strings.Replace(desc, replacements[i], replacements[i+1], 1)
	}
	return desc
}

const thirtyTwo = `[9,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,` +
	`24,25,26,27,28,29,30,255]`

func TestIssueVerify(t *testing.T) {
	ca := newCA(t, "test")
	kp := newKeyPair(t)
	c := issue(t, ca, func(r *Request) {
		r.PublicKey = kp.Public()
		r.Names = []string{"a.com", "b.example"}
		r.IPs = []string{"10.0.0.1", "2001:DB8:0::1", "::ffff:192.0.2.1"}
		r.MACs = []string{"00:11:22:33:44:55"}
	})
	if err := c.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow}); err != nil {
		t.Error(err)
	}
	if err := ca.Certificate().Verify(VerifyOptions{Now: testNow}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.VerifyKey(kp.Public()), c.VerifyHost("x.b.example"),
		c.VerifyAddr(netip.MustParseAddr("2001:db8::1"))); err != nil {
		t.Error(err)
	}
	wantReason(t, "another key", c.VerifyKey(newKeyPair(t).Public()), ReasonWrongKey)
	wantReason(t, "a CA's key", ca.Certificate().VerifyKey(PublicKey(ca.Certificate().publicKey)),
		ReasonWrongKey)

	if box, ok := c.BoxKey(); !ok || box != kp.Public() || c.Type() != TypeCA || c.CA() != "test" ||
		c.publicKey != [32]byte(kp.Public()) || !c.Expires().Equal(testNow.Add(time.Hour)) ||
		!c.SignedAt().Equal(testNow) {
		t.Errorf("the accessors return other values: %+v", c)
	}
	if want := []string{"10.0.0.1", "2001:db8::1",
		"::ffff:192.0.2.1"}; !slices.Equal(c.IPs(), want) {
		t.Errorf("ips %q, want %q", c.IPs(), want)
	}
	if !slices.Equal(c.Names(), []string{"a.com", "b.example"}) ||
		!slices.Equal(c.MACs(), []string{"00:11:22:33:44:55"}) {
		t.Errorf("names %q, macs %q", c.Names(), c.MACs())
	}
	if _, ok := ca.Certificate().BoxKey(); ok || ca.Certificate().Type() != TypeSelf {
		t.Error("a CA's certificate passes for one of a Box key")
	}
	c.Names()[0] = "changed"
	if c.Names()[0] != "a.com" {
		t.Error("a caller can change the names")
	}
}

func TestVerifyUse(t *testing.T) {
	ca := newCA(t, "test")
	for _, use := range []Use{UseAny, UseServer, UseClient} {
		c := issue(t, ca, func(r *Request) { r.Use = use })
		if c.Use() != use || parse(t, c.JSON()).Use() != use {
			t.Errorf("issued for %q: it is for %q", use, c.Use())
		}
		for _, end := range []Use{UseServer, UseClient} {
			if err := c.VerifyUse(end); use == UseAny || use == end {
				if err != nil {
					t.Errorf("%q for %q: %v", use, end, err)
				}
			} else {
				wantReason(t, "the other end", err, ReasonWrongUse)
			}
		}
	}
	// What another issuer writes there is taken for a restriction, too.
	for _, text := range []string{`""`, `null`} {
		c := parse(t, signed(t, ca, descOf(`"ca":"test"`, `"ca":"test","use":`+text)))
		if err := errors.Join(c.VerifyUse(UseServer), c.VerifyUse(UseClient)); err != nil {
			t.Errorf("use %s: %v", text, err)
		}
	}
	for _, text := range []string{`"Server"`, `"both"`, `"server "`} {
		c := parse(t, signed(t, ca, descOf(`"ca":"test"`, `"ca":"test","use":`+text)))
		wantReason(t, text, c.VerifyUse(UseServer), ReasonWrongUse)
		wantReason(t, text, c.VerifyUse(UseClient), ReasonWrongUse)
	}
	for _, text := range []string{`1`, `true`, `["server"]`, `{}`} {
		_, err := ParseCertificate(signed(t, ca, descOf(`"ca":"test"`, `"ca":"test","use":`+text)))
		if !errors.Is(err, ErrMalformedCertificate) {
			t.Errorf("use %s: %v", text, err)
		}
	}
}

func TestVerifyReasons(t *testing.T) {
	ca, other, namesake := newCA(t, "test"), newCA(t, "other"), newCA(t, "TEST")
	ok := VerifyOptions{CA: ca.Certificate(), Now: testNow}
	at := func(now time.Time) VerifyOptions { return VerifyOptions{CA: ca.Certificate(), Now: now} }
	by := func(ca *Certificate) VerifyOptions { return VerifyOptions{CA: ca, Now: testNow} }
	revoked, err := ParseRevocations(strings.NewReader("D2F971FC-98AD-4DEA-ADA2-74EBC129ED99 # " +
		"lost\n"))
	if err != nil {
		t.Fatal(err)
	}
	expiry := testNow.Add(time.Hour)
	tte := fmt.Sprintf(`"tte":%d`, expiry.UnixMilli())
	for name, tt := range map[string]struct {
		desc string
		opts VerifyOptions
		want Reason // 0: accepted
	}{
		"good":                  {descOf(), ok, 0},
		"last millisecond":      {descOf(), at(expiry.Add(-time.Millisecond)), 0},
		"expired":               {descOf(), at(expiry), ReasonExpired},
		"expired long ago":      {descOf(tte, `"tte":1`), ok, ReasonExpired},
		"negative time":         {descOf(tte, `"tte":-1e300`), ok, ReasonExpired},
		"version 1":             {descOf(`"1.0"`, `"1"`), ok, ReasonWrongVersion},
		"version 2.0":           {descOf(`"1.0"`, `"2.0"`), ok, ReasonWrongVersion},
		"unknown type":          {descOf(`"type":"ca"`, `"type":"cb"`), ok, ReasonWrongType},
		"empty type":            {descOf(`"type":"ca"`, `"type":""`), ok, ReasonWrongType},
		"signed by itself":      {descOf(`"type":"ca"`, `"type":"self"`), ok, ReasonWrongType},
		"type in capitals":      {descOf(`"type":"ca"`, `"type":"CA"`), ok, 0},
		"CA name in capitals":   {descOf(`"ca":"test"`, `"ca":"TeSt"`), ok, 0},
		"no CA to check":        {descOf(), by(nil), ReasonWrongCA},
		"another CA":            {descOf(), by(other.Certificate()), ReasonWrongCA},
		"no CA name":            {descOf(`,"ca":"test"`, ``), ok, ReasonWrongCA},
		"empty CA name":         {descOf(`"ca":"test"`, `"ca":""`), ok, ReasonWrongCA},
		"CA name of no text":    {descOf(`"ca":"test"`, `"ca":["test"]`), ok, ReasonWrongCA},
		"CA with the same name": {descOf(), by(namesake.Certificate()), ReasonBadSignature},
		"CA that is none": {descOf(), by(parse(t, signed(t, ca, descOf()))),
			ReasonInvalidCA},
		"CA expired": {descOf(tte, `"tte":9e15`), at(testNow.Add(25 * time.Hour)),
			ReasonInvalidCA},
		"outlives CA": {descOf(tte,
			fmt.Sprintf(`"tte":%d`, testNow.Add(24*time.Hour).UnixMilli()+1)), ok,
			ReasonOutlivesCA},
		"lives as long as CA": {descOf(tte,
			fmt.Sprintf(`"tte":%d`, testNow.Add(24*time.Hour).UnixMilli())), ok, 0},
		"revoked": {descOf(), VerifyOptions{ca.Certificate(), testNow, revoked},
			ReasonRevoked},
		"not to be revoked": {descOf(`"d2f971fc-98ad`, `"d2f971fc-`),
			VerifyOptions{ca.Certificate(), testNow, revoked}, ReasonNoGID},
		"another one is revoked": {descOf(`"d2f9`, `"d3f9`),
			VerifyOptions{ca.Certificate(), testNow, revoked}, 0},
		"no gid, no list": {descOf(`,"gid":"d2f971fc-98ad-4dea-ada2-74ebc129ed99"`, ``), ok,
			0},
		"unknown members": {descOf(`"names"`,
			`"7":{"deep":[1.0,"\u00e9\ud800"]},"x":null,"names"`), ok, 0},
		"keys that count": {descOf(`"macs":[]`, `"macs":[],"2":1,"10":2,"1":3`), ok, 0},
	} {
		err := parse(t, signed(t, ca, tt.desc)).Verify(tt.opts)
		if tt.want == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantReason(t, name, err, tt.want)
	}
}

func TestVerifyRevokedCA(t *testing.T) {
	ca := newCA(t, "test")
	c := issue(t, ca, nil)
	revoked, err := ParseRevocations(strings.NewReader(ca.Certificate().GID()))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow, Revoked: revoked})
	wantReason(t, "a certificate of a revoked CA", err, ReasonInvalidCA)
	var outer *VerifyError
	if errors.As(err, &outer) {
		wantReason(t, "its cause", outer.Err, ReasonRevoked)
	}
}

func TestVerifyDefaultsToThePresent(t *testing.T) {
	past := time.Now().Add(-48 * time.Hour)
	ca, err := NewCA(rand.Reader, "test", past, past.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "no time given", ca.Certificate().Verify(VerifyOptions{}), ReasonExpired)
}

func TestVerifyHost(t *testing.T) {
	ca := newCA(t, "test")
	for _, tt := range []struct {
		name, host string
		want       bool
	}{
		{"a.com", "a.com", true},
		{"a.com", "A.Com", true},
		{"A.COM", "x.a.com", true},
		{"a.com", "x.y.a.com", true},
		{"a.com", "a.com.", true},
		{"a.com.", "x.a.com", true},
		{"a.com.", "a.com.", true},
		{"a.com", "a.com..", false},
		{"a.com", "evil-a.com.attacker.net", false},
		{"a.com", "a.com.attacker.net", false},
		{"a.com", "evil-a.com", false},
		{"a.com", "xa.com", false},
		{"a.com", "com", false},
		{"a.com", "axcom", false},
		{"a.com", "", false},
		{"a.com", ".", false},
		{"a.*", "a.com", false},
		{"*.a.com", "x.a.com", false},
		{".*", "a.com", false},
		{"(a|b).com", "a.com", false},
		{"", "a.com", false},
		{".", "a.com.", false},
		{".", "", false},
		{"com.", "a.com", true},
		{"10.0.0.1", "10.0.0.1", true},
		{"0.0.1", "10.0.0.1", false},
		{"1", "10.0.0.1", false},
		{"10.0.0.1", "x.10.0.0.1", false},
		{"::1", "::1", true},
		{"0.0.1", "::ffff:10.0.0.1", false},
		{"bücher.example", "BÜCHER.example", true},
		{"k.com", "\u212a.com", false}, // the Kelvin sign's lower case is k
		{"\u212a.com", "k.com", false},
		{"i.com", "İ.com", false},
		{`a"<>&é\`, `x.A"<>&É\`, true},
		{"a.com\x00", "a.com", false},
		{"a.com", "a.com\x00", false},
	} {
		err := parse(t, signed(t, ca, descOf(`["a.com"]`,
			string(appendJSON(nil, []any{"z.org", tt.name}))))).VerifyHost(tt.host)
		if tt.want != (err == nil) {
			t.Errorf("name %q, host %q: %v", tt.name, tt.host, err)
		}
		if err != nil {
			wantReason(t, tt.host, err, ReasonWrongHost)
		}
	}
	wantReason(t, "no names", parse(t, signed(t, ca,
		descOf(`"names":["a.com"],`, ``))).VerifyHost("a.com"), ReasonWrongHost)
	// Unpaired surrogates differ from each other and from their printed form.
	alone := parse(t, signed(t, ca, descOf(`"a.com"`, `"\ud800.com"`)))
	for _, host := range []string{"\xed\xa0\x81.com", "\uFFFD.com"} {
		wantReason(t, "another surrogate", alone.VerifyHost(host), ReasonWrongHost)
	}
}

func TestVerifyAddr(t *testing.T) {
	ca := newCA(t, "test")
	for _, tt := range []struct {
		ip, addr string
		want     bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"::ffff:10.0.0.1", "10.0.0.1", true},
		{"2001:DB8::0:1", "2001:db8::1", true},
		{"fe80::1", "fe80::1%eth0", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.1", "10.0.0.10", false},
		{"10.0.0.0/8", "10.0.0.1", false},
		{"010.0.0.1", "10.0.0.1", false},
		{"10.0.0", "10.0.0.0", false},
		{"", "0.0.0.0", false},
		{"a.com", "10.0.0.1", false},
		{"::10.0.0.1", "10.0.0.1", false},
	} {
		c := parse(t, signed(t, ca, descOf(`["10.0.0.1"]`,
			string(appendJSON(nil, []any{"192.0.2.7", tt.ip})))))
		err := c.VerifyAddr(netip.MustParseAddr(tt.addr))
		if tt.want != (err == nil) {
			t.Errorf("listed %q, address %s: %v", tt.ip, tt.addr, err)
		}
		if err != nil {
			wantReason(t, tt.addr, err, ReasonWrongAddress)
		}
	}
	c := parse(t, signed(t, ca, descOf(`["10.0.0.1"]`, `["", "x"]`)))
	wantReason(t, "no address", c.VerifyAddr(netip.Addr{}), ReasonWrongAddress)
}

func TestReasonsHaveWords(t *testing.T) {
	seen := map[string]bool{}
	for r := ReasonExpired; r <= ReasonWrongKey; r++ {
		if s := r.String(); seen[s] || strings.Contains(s, "reason") {
			t.Errorf("reason %d: %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if got := Reason(99).String(); got != "reason 99" {
		t.Error(got)
	}
}

func TestParseRevocations(t *testing.T) {
	var none *Revocations
	if err := none.check(&Certificate{}); err != nil {
		t.Errorf("no list: %v", err)
	}
	list, err := ParseRevocations(strings.NewReader(
		"# lost keys\n\n d2f971fc-98ad-4dea-ada2-74ebc129ed99\r\n" +
			"8D0FDD95-566C-4917-B158-36BACE3254C7 # laptop\nd2f971fc-98ad-4dea-ada2-74ebc129ed99"))
	if err != nil || len(list.gids) != 2 {
		t.Errorf("%d revocations, %v; want 2", len(list.gids), err)
	}
	for _, bad := range []string{
		"d2f971fc-98ad-4dea-ada2", "d2f971fc-98ad-4dea-ada2-74ebc129ed999",
		"d2f971fc98ad4deaada274ebc129ed99",
		"d2f971fc-98ad-4dea-ada2-74ebc129ed9g", "d2f971fc_98ad_4dea_ada2_74ebc129ed99",
		"d2f971fc-98ad-4dea-ada2-74ebc129ed99 laptop", "\xff", "x # y",
	} {
		var line *LineError
		_, err := ParseRevocations(strings.NewReader("# one\n" + bad + "\n"))
		if !errors.As(err, &line) || line.Line != 2 || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%q: got %v, want an error about line 2", bad, err)
		}
	}
}
