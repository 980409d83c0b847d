package certs

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// nastyNames are names of hosts and of CAs that a printer of JSON can get wrong.
var nastyNames = []string{
	"a.com", `say "hi"`, `'single'`, `<b>&amp;</b>`, "é", "É", "e\u0301", "line\u2028sep\u2029",
	"😀", "𝒳\U0010FFFF",
	`back\slash`, `\u00e9`, `\`, `\\"`, "tab\tline\nfeed\fback\breturn\r", "bell\a\x00\x01\x1f\x7f",
	"/slash", "\uFEFFmark",
	"\uFFFD", "\uFFFF", "%s %d", "__proto__", "0", "4294967295", "-0", "1e21", "İ", "ΣΑΣ", "\u212a",
	" ", "null",
}

// nastyTexts are the same as JSON, and unpaired surrogates, which no UTF-8 can hold.
func nastyTexts() [][]byte {
	texts := [][]byte{[]byte(`"\ud800"`), []byte(`"x\udfffy"`), []byte(`"\ude00\ud83d"`),
		[]byte(`"\ud83d\ud83d\ude00"`)}
	for _, name := range nastyNames {
		texts = append(texts, appendString(nil, name))
	}
	return texts
}

// validation is a certificate for the reference to validate, and the wanted result.
type validation struct {
	what string
	op   operation
	want bool
}

func runValidations(t *testing.T, validations []validation) {
	t.Helper()
	ops := make([]operation, len(validations))
	for i, v := range validations {
		ops[i] = v.op
	}
	for i, r := range reference(t, ops) {
		if v := validations[i]; r.OK != v.want {
			t.Errorf("%s: the reference returns %v", v.what, r.OK)
		}
	}
}

// TestOursVerifyThere: certificates made here are valid for the reference, whatever their names.
func TestOursVerifyThere(t *testing.T) {
	folder := t.TempDir()
	var checks []validation
	for i, name := range nastyNames {
		ca := newCA(t, name)
		c := issue(t, ca, func(r *Request) {
			r.Names = append([]string{name}, nastyNames...)
			r.IPs = []string{"10.0.0.1", "2001:DB8::1"}
			r.MACs = []string{name}
		})
		// The reference gets the contents of files.
		caFile, certFile := filepath.Join(folder, fmt.Sprint("ca", i)),
			filepath.Join(folder, fmt.Sprint("cert", i))
		if err := ca.Certificate().WriteFile(caFile); err != nil {
			t.Fatal(err)
		}
		if err := c.WriteFile(certFile); err != nil {
			t.Fatal(err)
		}
		caJSON, certJSON := readFile(t, caFile), readFile(t, certFile)
		checks = append(checks,
			validation{"CA " + name, op("validate", caJSON, nil), true},
			validation{"certificate by " + name, op("validate", certJSON, caJSON), true},
			validation{"certificate without a CA", op("validate", certJSON, nil), false},
			validation{"address", op("checkIP", certJSON, []byte("2001:db8::1")), true},
			validation{"another address", op("checkIP", certJSON, []byte("2001:db8::2")), false},
		)
	}
	ca, other := newCA(t, "test"), newCA(t, "test")
	c := issue(t, ca, nil)
	changed := bytes.Replace(c.JSON(), []byte("a.com"), []byte("b.com"), 1)
	checks = append(checks,
		validation{"host", op("checkDomain", c.JSON(), []byte("x.a.com")), true},
		validation{"another host", op("checkDomain", c.JSON(), []byte("b.org")), false},
		validation{"another CA of that name", op("validate", c.JSON(), other.Certificate().JSON()),
			false},
		validation{"changed", op("validate", changed, ca.Certificate().JSON()), false},
	)
	runValidations(t, checks)
}

// TestUseVerifiesThere: the reference signs and ignores the end that a certificate is for.
func TestUseVerifiesThere(t *testing.T) {
	ca := newCA(t, "test")
	caJSON := ca.Certificate().JSON()
	var checks []validation
	for _, use := range []Use{UseServer, UseClient} {
		c := issue(t, ca, func(r *Request) { r.Use = use }).JSON()
		checks = append(checks,
			validation{string(use), op("validate", c, caJSON), true},
			validation{string(use) + " host", op("checkDomain", c, []byte("x.a.com")), true},
			validation{string(use) + " changed", op("validate", bytes.Replace(c,
				[]byte(`"use":"`+use+`"`), []byte(`"use":"other!"`), 1), caJSON), false})
	}
	runValidations(t, checks)
	// The other way round, where the issuer is the reference.
	made := makeTheirs(t, [][]byte{[]byte(`"a.com"`)}, func(name []byte) string {
		return strings.TrimSuffix(theirRequest(name), "}") + `,"use":"client"}`
	})
	c := parse(t, made[0].cert)
	if err := c.Verify(VerifyOptions{CA: parse(t, caOf(t, made[0].ca))}); err != nil {
		t.Error(err)
	}
	wantReason(t, "theirs for a client", c.VerifyUse(UseServer), ReasonWrongUse)
}

// TestSelfSignedThere: the reference accepts a certificate of type self that a stranger has made,
// whatever the CA. It is refused here.
func TestSelfSignedThere(t *testing.T) {
	ca, stranger := newCA(t, "test"), newCA(t, "test").Certificate()
	runValidations(t, []validation{{"a stranger's self certificate",
		op("validate", stranger.JSON(), ca.Certificate().JSON()), true}})
	err := stranger.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow})
	wantReason(t, "a stranger's self certificate", err, ReasonWrongType)
}

// TestReferenceProblem: a name has a problem if the reference fails to match the host that is
// called so, or matches another one that has nothing in common with it.
func TestReferenceProblem(t *testing.T) {
	ca := newCA(t, "test")
	names := []string{"a.com", "x-1.a.com", "xn--bcher-kva.example", "_dns.a.com", "10.0.0.1",
		"*.a.com", "*", "a+b.com", "(a.com", "a)b.com", "[a.com", "a]b.com)", "a?.com", "^a.com",
		"a.com$", "a.com|", `a\`, "a{2}.com", "{a}(.com"}
	var ops []operation
	for _, name := range names {
		c := issue(t, ca, func(r *Request) { r.Names = []string{name} }).JSON()
		ops = append(ops, op("checkDomain", c, []byte(name)),
			op("checkDomain", c, []byte("other.test")))
	}
	results := reference(t, ops)
	for i, name := range names {
		breaks := !results[2*i].OK || results[2*i+1].OK
		problem := ReferenceProblem(name)
		if breaks && problem == "" {
			t.Errorf("%q: the reference matches the host: %v, another: %v, and there is no problem",
				name, results[2*i].OK, results[2*i+1].OK)
		}
		if !breaks && problem != "" {
			t.Logf("%q: %s, though the reference matches as it should", name, problem)
		}
		if i < 5 && problem != "" {
			t.Errorf("%q: %s", name, problem)
		}
	}
	if ReferenceProblem("") == "" {
		t.Error("an empty name has no problem")
	}
}

// theirs is the reference's output for one name.
type theirs struct {
	ca, cert []byte // as JSON.stringify printed them; ca is {cert, secretkey}
}

// makeTheirs makes CAs and certificates with each of the names, using the reference.
func makeTheirs(t *testing.T, names [][]byte, request func(name []byte) string) []theirs {
	t.Helper()
	var ops []operation
	for _, name := range names {
		ops = append(ops, op("generateCA", fmt.Appendf(nil, `{"name":%s,"tte":%d}`, name,
			testNow.Add(24*time.Hour).UnixMilli())))
	}
	made := make([]theirs, len(names))
	for i, r := range reference(t, ops) {
		if !r.OK {
			t.Fatalf("the reference makes no CA %s", names[i])
		}
		made[i].ca = r.Text
		ops[i] = op("generate", []byte(request(names[i])), r.Text)
	}
	for i, r := range reference(t, ops) {
		if !r.OK {
			t.Fatalf("the reference makes no certificate %s", names[i])
		}
		made[i].cert = r.Text
	}
	return made
}

// theirRequest is in the order of the reference's command line.
func theirRequest(name []byte) string {
	return fmt.Sprintf(`{"version":"1.0","type":"ca","tte":%d,"publickey":%s,`+
		`"names":[%s,"a.com"],"ips":["10.0.0.1"],"macs":[%s]}`,
		testNow.Add(time.Hour).UnixMilli(), thirtyTwo, name, name)
}

// TestTheirsVerifyHere: certificates of the reference are valid here, and each misuse of them is
// refused for its reason.
func TestTheirsVerifyHere(t *testing.T) {
	names := nastyTexts()
	var checks []validation
	all := makeTheirs(t, names, theirRequest)
	for i, their := range all {
		what := string(names[i])
		path := filepath.Join(t.TempDir(), "ca.json")
		if err := os.WriteFile(path, their.ca, 0o600); err != nil {
			t.Fatal(err)
		}
		ca, err := ReadCA(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		c := parse(t, their.cert)
		opts := VerifyOptions{CA: ca.Certificate(), Now: time.Now()}
		if err := ca.Certificate().Verify(VerifyOptions{}); err != nil {
			t.Errorf("CA %s: %v", what, err)
		}
		if err := c.Verify(opts); err != nil {
			t.Errorf("certificate by %s: %v", what, err)
		}
		if !bytes.Equal(c.JSON(), their.cert) {
			t.Errorf("%s\nis printed as %s\nthe reference: %s", what, c.JSON(), their.cert)
		}
		checkTheirRefusals(t, what, c, opts, all[(i+2)%len(all)])

		// A certificate made here with their CA goes back to them.
		mine := issue(t, ca, func(r *Request) { r.Names = nastyNames })
		checks = append(checks, validation{"certificate made here by their CA " + what,
			op("validate", mine.JSON(), ca.Certificate().JSON()), true})
		if want, got := keysOf(t, their.cert), keysOf(t, mine.JSON()); !slices.Equal(got, want) {
			t.Errorf("the members are in the order %q, the reference's in %q", got, want)
		}
		if i == 0 {
			if want, got := keysOf(t, caOf(t, their.ca)),
				keysOf(t, newCA(t, "x").Certificate().JSON()); !slices.Equal(got, want) {
				t.Errorf("a CA's members are in the order %q, the reference's in %q", got, want)
			}
		}
	}
	runValidations(t, checks)
}

func checkTheirRefusals(
	t *testing.T, what string, c *Certificate, opts VerifyOptions, another theirs,
) {
	t.Helper()
	if err := c.VerifyHost("x.A.com."); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	wantReason(t, what, c.VerifyHost("evil-a.com.attacker.net"), ReasonWrongHost)
	if err := c.VerifyAddr(netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	wantReason(t, what, c.VerifyAddr(netip.MustParseAddr("10.0.0.2")), ReasonWrongAddress)

	late := opts
	late.Now = testNow.Add(time.Hour)
	wantReason(t, what, c.Verify(late), ReasonExpired)
	wrong := opts
	wrong.CA = parse(t, caOf(t, another.ca))
	wantReason(t, what, c.Verify(wrong), ReasonWrongCA)
	revoked, err := ParseRevocations(strings.NewReader(c.GID() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	opts.Revoked = revoked
	wantReason(t, what, c.Verify(opts), ReasonRevoked)
}

// TestTheirCertificateTampered changes each byte of a certificate that the reference made.
func TestTheirCertificateTampered(t *testing.T) {
	their := makeTheirs(t, [][]byte{[]byte(`"é\"\u2028<&>\ud83d\ude00\udead\\"`)}, theirRequest)[0]
	ca := parse(t, caOf(t, their.ca))
	tamper(t, "reference's", their.cert, allBits, func(b []byte) error {
		c, err := ParseCertificate(b)
		if err == nil {
			err = c.Verify(VerifyOptions{CA: ca, Now: testNow})
		}
		return err
	})
}

// TestSameVerdict validates certificates with one oddity with both: what the reference accepts is
// accepted here, except where marked.
func TestSameVerdict(t *testing.T) {
	ca := newCA(t, "test")
	const stricter = true
	tte := fmt.Sprintf(`"tte":%d`, testNow.Add(time.Hour).UnixMilli())
	cases := []struct {
		desc     string
		stricter bool // here than there
	}{
		{descOf(), false},
		{descOf(`"type":"ca"`, `"type":"CA"`), false},
		{descOf(`"type":"ca"`, `"type":"cA"`, `"ca":"test"`, `"ca":"TEST"`), false},
		{descOf(`"type":"ca"`, `"type":"ca "`), false},
		{descOf(`"ca":"test"`, `"ca":"te\u017ft"`), false}, // the long s: its lower case is itself
		{descOf(`"ca":"test"`, `"ca":""`), false},
		{descOf(`"1.0"`, `"1.00"`), false},
		{descOf(tte, `"tte":1e300`), false},
		{descOf(tte, `"tte":4102444800000.5`), false},
		{descOf(tte, `"tte":0`), false},
		{descOf(`"gid":"d2f971fc-98ad-4dea-ada2-74ebc129ed99"`, `"gid":null,"3":[],"1":{}`), false},
		{descOf(`"names":["a.com"],"ips":["10.0.0.1"],"macs":[],`, `"__proto__":{"x":1},`), false},
		{descOf(`"version":"1.0"`, `"version":"9","tte":1`, `"ca":"test"`,
			`"ca":"test","version":"1.0",`+tte), false},
		{descOf(`[9,1,`, `[256,1,`), stricter},
		{descOf(`[9,1,`, `["x",1,`), stricter},
		{descOf(`[9,1,`, `[9,`), stricter}, // it never looks at how many they are
		{descOf(tte, fmt.Sprintf(`"tte":"%d"`, testNow.Add(time.Hour).UnixMilli())), stricter},
		{descOf(`["a.com"]`, `"a.com"`), stricter},
	}
	ops := make([]operation, len(cases))
	for i, tt := range cases {
		ops[i] = op("validate", signed(t, ca, tt.desc), ca.Certificate().JSON())
	}
	for i, r := range reference(t, ops) {
		tt, their := cases[i], r.OK
		c, err := ParseCertificate(signed(t, ca, tt.desc))
		if err == nil {
			err = c.Verify(VerifyOptions{CA: ca.Certificate()})
		}
		if tt.stricter && (!their || err == nil) || !tt.stricter && their != (err == nil) {
			t.Errorf("%s\nthe reference: %v, here: %v", tt.desc, their, err)
		}
	}
}

// TestLowerNameIsNodes: CA names compare as with JavaScript's toLowerCase.
func TestLowerNameIsNodes(t *testing.T) {
	var ops []operation
	var texts []string
	for _, s := range append(slices.Clone(nastyNames), "ABC xyz", "ÀÉÎÕÜ ßẞ", "ЖЩ", "ΑΒΓ", "İIiı",
		"\u212A\u212B\u2126", "Ǆǅǆ", "𐐀", "Ⴀ", "Ꭰꭰ") {
		texts = append(texts, s)
		ops = append(ops, op("lower", appendString(nil, s)))
	}
	for i, r := range reference(t, ops) {
		got := string(appendString(nil, lowerName(texts[i])))
		if want := strings.ReplaceAll(string(r.Text), "ς", "σ"); got != want {
			t.Errorf("%q in lower case is %q, in JavaScript %q", texts[i], got, want)
		}
	}
}

// TestKeyPairFilesBothWays: each side reads the other's key files.
func TestKeyPairFilesBothWays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.json")
	if err := newKeyPair(t).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	results := reference(t, []operation{op("checkKeyPair", readFile(t, path)), op("keyPair")})
	if !results[0].OK {
		t.Error("the reference finds that the key pair's halves do not belong together")
	}
	path = filepath.Join(t.TempDir(), "theirs.json")
	if err := os.WriteFile(path, results[1].Text, 0o600); err != nil {
		t.Fatal(err)
	}
	kp, err := ReadKeyPair(path)
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again.json")
	if err := kp.WriteFile(again); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, again); !bytes.Equal(got, results[1].Text) {
		t.Error("the reference's key file, read and written, has other bytes")
	}
	// And a CA's file.
	ca := newCA(t, "test")
	caPath := filepath.Join(t.TempDir(), "ca.json")
	if err := ca.WriteFile(caPath); err != nil {
		t.Fatal(err)
	}
	request := []byte(theirRequest([]byte(`"é"`)))
	made := reference(t, []operation{op("generate", request, readFile(t, caPath))})[0]
	if err := parse(t, made.Text).Verify(VerifyOptions{CA: ca.Certificate()}); err != nil {
		t.Errorf("a certificate that the reference made with a CA's file from here: %v", err)
	}
	if _, err := ca.Issue(rand.Reader, testNow,
		Request{PublicKey: kp.Public(), Expires: testNow.Add(time.Hour)}); err != nil {
		t.Errorf("a certificate for a key of the reference's: %v", err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// caOf extracts the certificate from a CA's file.
func caOf(t testing.TB, file []byte) []byte {
	t.Helper()
	var ca struct{ Cert json.RawMessage }
	if err := json.Unmarshal(file, &ca); err != nil {
		t.Fatal(err)
	}
	return ca.Cert
}

// keysOf lists desc's members in order.
func keysOf(t testing.TB, cert []byte) []string {
	t.Helper()
	v, err := parseJSON(cert)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*object).get("desc").(*object).keys
}
