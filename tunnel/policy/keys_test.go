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
		names[2]+" reverse=localhost:8022",
	)
	base := mustRules(t, nil, []string{"*:80"})
	rules, err := base.ForKeys(authorized)
	if err != nil || len(rules) != 1 {
		t.Fatalf("rules for %d keys, %v", len(rules), err)
	}
	for port, want := range map[uint16]string{22: "192.0.2.1", 80: "denied", 443: "denied"} {
		if got := resolve(t, rules[keys[1]], "tcp", "192.0.2.1", port); got != want {
			t.Errorf("port %d: %s, want %s", port, got, want)
		}
	}
	reverse, err := ReverseRulesForKeys(authorized)
	if err != nil || len(reverse) != 1 {
		t.Fatalf("reverse rules for %d keys, %v", len(reverse), err)
	}
	for text, want := range map[string]bool{"tcp:localhost:8022": true, "tcp:localhost:8023": false} {
		bind, err := ParseBind(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := reverse[keys[2]].Grant(bind); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if rules, err := base.ForKeys(nil); len(rules) != 0 || err != nil {
		t.Errorf("no keys: %v, %v", rules, err)
	}
	var line *KeyLineError
	var rule *ruleError
	bad := parse("", "# a comment", names[0]+" allow=10.0.0.1/8", names[1]+" reverse=example.org")
	if _, err := base.ForKeys(bad); !errors.As(err, &line) || line.Line != 3 ||
		line.Option != "allow" ||
		!errors.As(err, &rule) {
		t.Errorf("a bad rule to allow: %v", err)
	}
	if _, err := ReverseRulesForKeys(bad); !errors.As(err, &line) || line.Line != 4 ||
		line.Option != "reverse" ||
		!errors.As(err, &rule) {
		t.Errorf("a bad reverse rule: %v", err)
	}
}
