package policy

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"culvert/certs"
)

func TestRulesForKeys(t *testing.T) {
	var names []string
	var keys []certs.PublicKey
	for range 3 {
		key, err := certs.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys, names = append(keys, key.Public()), append(names, key.Public().String())
	}
	parse := func(lines ...string) *certs.AuthorizedKeys {
		t.Helper()
		authorized, err := certs.ParseAuthorizedKeys(strings.NewReader(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return authorized
	}
	authorized := parse(
		names[0],
		names[1]+" allow=192.0.2.1:22,80",
		names[2]+" reverse=localhost:8022 sessions=3 streams=5 rate=2M/- quota=5K",
	)
	granted, err := ParseReverseRules([]string{"localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	base := Rights{mustRules(t, nil, []string{"*:80"}), granted, Share{7, 9, 1, 2, 3}}
	rights, err := base.ForKeys(authorized)
	if err != nil || len(rights) != 3 {
		t.Fatalf("rights of %d keys, %v", len(rights), err)
	}
	if rights[keys[0]] != base {
		t.Errorf("a key without options: %+v", rights[keys[0]])
	}
	for port, want := range map[uint16]string{22: "192.0.2.1", 80: "denied", 443: "denied"} {
		if got := resolve(t, rights[keys[1]].Rules, "tcp", "192.0.2.1", port); got != want {
			t.Errorf("port %d: %s, want %s", port, got, want)
		}
	}
	if got := rights[keys[1]]; got.Reverse != granted || got.Share != base.Share {
		t.Errorf("allow= has changed other rights: %+v", got)
	}
	if got := rights[keys[2]]; got.Rules != base.Rules ||
		got.Share != (Share{3, 5, 2 << 20, 0, 5 << 10}) {
		t.Errorf("rights of the third key: %+v", got)
	}
	for text, want := range map[string]bool{"tcp:localhost:8022": true, "tcp:localhost:8023": false} {
		bind, err := ParseBind(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := rights[keys[2]].Reverse.Grant(bind); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if rights, err := base.ForKeys(nil); len(rights) != 0 || err != nil {
		t.Errorf("no keys: %v, %v", rights, err)
	}
	for option, isRule := range map[string]bool{
		"allow=10.0.0.1/8": true, "reverse=example.org": true, "sessions=0": false,
		"sessions=-1": false, "sessions=many": false, "sessions=4294967296": false,
		"streams=0": false, "rate=1M": false, "rate=0/1": false, "rate=1/": false,
		"rate=1/1T": false, "rate=1.5M/1": false, "rate=-1/1": false, "rate=9999999999G/1": false,
		"rate=K/1": false, "quota=0": false, "quota=1X": false, "quota=0K": false,
	} {
		_, err := base.ForKeys(parse("", "# a comment", names[0], names[1]+" "+option))
		var line *KeyLineError
		var rule *RuleError
		name, _, _ := strings.Cut(option, "=")
		if !errors.As(err, &line) || line.Line != 4 || line.Option != name ||
			errors.As(err, &rule) != isRule {
			t.Errorf("%s: %v", option, err)
		}
	}
}
