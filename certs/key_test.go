package certs

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/nacl/box"
)

// newKeyPair makes a random pair.
func newKeyPair(t testing.TB) *KeyPair {
	t.Helper()
	kp, err := GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

func TestGenerateKeyPairIsNaClBox(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, 32)
	kp, err := GenerateKeyPair(bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	public, secret, err := box.GenerateKey(bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	if kp.Public() != PublicKey(*public) || *kp.Secret() != *secret {
		t.Error("a pair from the same randomness differs from nacl/box's")
	}
}

func TestGenerateKeyPairShortRandomness(t *testing.T) {
	broken := errors.New("broken")
	if _, err := GenerateKeyPair(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if _, err := GenerateKeyPair(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("31 bytes made a key")
	}
	if _, err := NewKeyPair([32]byte{}); !errors.Is(err, ErrMalformedKey) {
		t.Errorf("a secret of zeros: got %v, want ErrMalformedKey", err)
	}
}

func TestPublicKeyText(t *testing.T) {
	kp := newKeyPair(t)
	text := kp.Public().String()
	if len(text) != 43 {
		t.Errorf("%d characters, want 43", len(text))
	}
	back, err := ParsePublicKey(text)
	if err != nil || !back.Equal(kp.Public()) {
		t.Errorf("read back %v, %v", back, err)
	}
	b, err := json.Marshal(map[string]PublicKey{"k": kp.Public()})
	if err != nil || string(b) != `{"k":"`+text+`"}` {
		t.Errorf("as JSON %s, %v", b, err)
	}
	var m map[string]PublicKey
	if err := json.Unmarshal(b, &m); err != nil || m["k"] != kp.Public() {
		t.Errorf("from JSON %v, %v", m, err)
	}
	if err := json.Unmarshal([]byte(`{"k":"short"}`), &m); !errors.Is(err, ErrPublicKey) {
		t.Errorf("from bad JSON: %v", err)
	}
	if newKeyPair(t).Public().Equal(kp.Public()) {
		t.Error("two keys are equal")
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	good := "-_" + strings.Repeat("A", 41)
	if _, err := ParsePublicKey(good); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, s := range map[string]string{
		"empty":              "",
		"short":              good[:42],
		"long":               good + "A",
		"padded":             good + "=",
		"standard alphabet":  "+/" + good[2:],
		"line break inside":  good[:10] + "\n" + good[11:],
		"second spelling":    good[:42] + "B",
		"spaces":             " " + good[1:],
		"low order: zero":    strings.Repeat("A", 43),
		"low order: one":     "AQ" + strings.Repeat("A", 41),
		"low order: order 8": lowOrder8.String(),
	} {
		if k, err := ParsePublicKey(s); !errors.Is(err, ErrPublicKey) || k != (PublicKey{}) {
			t.Errorf("%s: got %v, %v", name, k, err)
		} else if len(s) > 20 && strings.Contains(err.Error(), s[2:20]) {
			t.Errorf("%s: the error quotes the text: %v", name, err)
		}
	}
}

// lowOrder8 is a point of order 8 (RFC 7748, section 7, and the list at cr.yp.to/ecdh.html).
var lowOrder8 = func() PublicKey {
	b, _ := hex.DecodeString("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	return PublicKey(b)
}()

func TestSecretsDoNotPrint(t *testing.T) {
	kp := newKeyPair(t)
	ca := newCA(t, "some ca")
	secrets := map[string][]byte{"key pair": kp.Secret()[:], "CA": ca.secret()[:32]}

	// By value, by pointer, and where only reflection sees them.
	type holder struct {
		Key    *KeyPair
		key    *KeyPair
		Value  KeyPair
		value  KeyPair
		CA     *CA
		ca     *CA
		valued CA
	}
	h := holder{kp, kp, *kp, *kp, ca, ca, *ca}
	things := map[string]any{
		"pair": kp, "pair value": *kp, "pairs": []*KeyPair{kp}, "pair values": []KeyPair{*kp},
		"map": map[string]KeyPair{"k": *kp}, "CA": ca, "CA value": *ca, "holder": h,
		"holder pointer": &h,
		"error":          fmt.Errorf("with %v and %v", kp, ca),
	}
	verbs := []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%q", "%d", "%08b", "%o", "%t",
		"%U", "%!"}
	for name, thing := range things {
		var outputs []string
		for _, verb := range verbs {
			outputs = append(outputs, fmt.Sprintf(verb, thing))
		}
		j, err := json.Marshal(thing)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		outputs = append(outputs, string(j), fmt.Sprint(thing), fmt.Sprintln(thing))
		for i, out := range outputs {
			for whose, secret := range secrets {
				if leak := leaked(out, secret); leak != "" {
					t.Errorf("%s: the secret of the %s shows as %s in output %d", name, whose, leak,
						i)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v|%#v|%x", kp, kp, *kp); strings.Count(got, kp.Public().String()) != 3 {
		t.Errorf("a pair is not named by its public key: %s", got)
	}
	if got := fmt.Sprintf("%v", ca); got != `CA("some ca")` {
		t.Errorf("a CA prints as %s", got)
	}
}

// TestIsCanonical: keys that differ and are the same key to X25519 are not all canonical.
func TestIsCanonical(t *testing.T) {
	spelled := func(first, last byte) (k PublicKey) {
		for i := range k {
			k[i] = 0xFF
		}
		k[0], k[31] = first, last
		return k
	}
	other := spelled(0xED, 0x7F)
	other[17] = 0xFE
	for k, want := range map[PublicKey]bool{
		{}: true, {31: 0x7F}: true, {31: 0x80}: false, newKeyPair(t).Public(): true, other: true,
		spelled(0xEC, 0x7F): true, spelled(0xED, 0x7F): false, spelled(0xFF, 0x7F): false,
		spelled(0xEC, 0xFF): false, spelled(0xFF, 0x7E): true,
	} {
		if got := k.IsCanonical(); got != want {
			t.Errorf("%x: %v, want %v", k[:], got, want)
		}
	}
}

// TestIsLowOrder compares with X25519 for all points of low order, with the highest bit and
// without, and for some others.
func TestIsLowOrder(t *testing.T) {
	probe, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	lowOrder8b, _ := hex.DecodeString(
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
	points := []PublicKey{lowOrder8, PublicKey(lowOrder8b), newKeyPair(t).Public()}
	for first := range 256 {
		small, great := PublicKey{byte(first)}, PublicKey{byte(first)}
		for i := 1; i < 32; i++ {
			great[i] = 0xFF
		}
		points = append(points, small, great)
	}
	low := 0
	for _, k := range points {
		for _, high := range []byte{0, 0x80} {
			k[31] = k[31]&0x7F | high
			public, err := ecdh.X25519().NewPublicKey(k[:])
			if err != nil {
				t.Fatal(err)
			}
			_, err = probe.ECDH(public)
			if k.IsLowOrder() != (err != nil) {
				t.Errorf("%x: %v, X25519 says %v", k[:], k.IsLowOrder(), err)
			}
			if err != nil {
				low++
			}
		}
	}
	if low != 14 {
		t.Errorf("%d of low order, want 7 points of two spellings each", low)
	}
}

// leaked looks for any four consecutive bytes of the secret, in each way in which Go prints bytes.
func leaked(out string, secret []byte) string {
	lower := strings.ToLower(out)
	for i := 0; i+4 <= len(secret); i++ {
		part := secret[i : i+4]
		list := fmt.Sprint(part)
		list = list[1 : len(list)-1]
		goList := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}")
		for _, form := range []string{
			string(part), hex.EncodeToString(part), fmt.Sprintf("% x", part), list,
			strings.ReplaceAll(list, " ", ","), goList, fmt.Sprintf("%08b", part),
			fmt.Sprintf("%o", part),
		} {
			form = strings.Trim(form, "[]")
			if strings.Contains(out, form) || strings.Contains(lower, form) {
				return form
			}
		}
	}
	for _, text := range []string{keyText.EncodeToString(secret)} {
		if strings.Contains(out, text[:40]) {
			return text
		}
	}
	return ""
}

func TestLeakedFindsLeaks(t *testing.T) {
	kp := newKeyPair(t)
	secret := kp.Secret()[:]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%d", "%08b", "%o"} {
		if leaked(fmt.Sprintf(verb, secret), secret) == "" {
			t.Errorf("%s of the secret passes unseen", verb)
		}
	}
}

func TestSharedKeyMatchesECDH(t *testing.T) {
	a, b := newKeyPair(t), newKeyPair(t)
	private, err := ecdh.X25519().NewPrivateKey(a.Secret()[:])
	if err != nil {
		t.Fatal(err)
	}
	if PublicKey(private.PublicKey().Bytes()) != a.Public() {
		t.Error("the public key is not the secret key's")
	}
	sealed := box.Seal(nil, []byte("hello"), &[24]byte{}, (*[32]byte)(ptr(b.Public())), a.Secret())
	opened, ok := box.Open(nil, sealed, &[24]byte{}, (*[32]byte)(ptr(a.Public())), b.Secret())
	if !ok || string(opened) != "hello" {
		t.Error("a box between two pairs does not open")
	}
}

func ptr[T any](v T) *T { return &v }
