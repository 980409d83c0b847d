package certs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseAuthorizedKeys(t *testing.T) {
	var keys [6]PublicKey
	for i := range keys {
		keys[i] = newKeyPair(t).Public()
	}
	text := fmt.Sprintf("# clients\n\n%s\n  %s\tbob's laptop  at home\r\n%s "+
		"allow=*.example:443,10.0.0.0/8:* reverse=127.0.0.1:8080 # carol=1\n"+
		"%s reverse=*:*\n#%s\n%s allow=a:1", keys[0], keys[1], keys[2], keys[3], keys[4], keys[5])
	list, err := ParseAuthorizedKeys(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []AuthorizedKey{
		{Key: keys[0], Line: 3},
		{Key: keys[1], Comment: "bob's laptop at home", Line: 4},
		{Key: keys[2], Allow: []string{"*.example:443", "10.0.0.0/8:*"},
			Reverse: []string{"127.0.0.1:8080"}, Comment: "carol=1", Line: 5},
		{Key: keys[3], Reverse: []string{"*:*"}, Line: 6},
		{Key: keys[5], Allow: []string{"a:1"}, Line: 8},
	}
	if len(list.entries) != len(want) {
		t.Errorf("%d keys, want %d", len(list.entries), len(want))
	}
	for _, w := range want {
		if got, ok := list.Lookup(w.Key); !ok || !reflect.DeepEqual(*got, w) {
			t.Errorf("got %+v, %v\nwant %+v", got, ok, w)
		}
	}
	if got, ok := list.Lookup(keys[4]); ok || got != nil {
		t.Error("a key that is commented out is admitted")
	}
	if got, ok := list.Lookup(PublicKey{}); ok || got != nil {
		t.Error("the zero key is admitted")
	}
	var none *AuthorizedKeys
	if _, ok := none.Lookup(keys[0]); ok || len(slices.Collect(none.All())) != 0 {
		t.Error("a nil list admits a key")
	}
}

func TestParseAuthorizedKeysRefuses(t *testing.T) {
	first, key := newKeyPair(t).Public().String(), newKeyPair(t).Public().String()
	for name, line := range map[string]string{
		"no key":                    "bob",
		"key cut":                   key[1:],
		"key of low order":          strings.Repeat("A", 43),
		"key twice":                 first + " again",
		"key after a comment":       "bob " + key,
		"option before the key":     "allow=a:1 " + key,
		"misspelt option":           key + " alow=a:1",
		"option in capitals":        key + " ALLOW=a:1",
		"option after a comment":    key + " bob allow=a:1",
		"option after a #":          key + " # reverse=a:1",
		"option with a #":           key + " #allow=a:1",
		"option with more of them":  key + " bob ##quota=1",
		"option with spaces":        key + " allow = a:1",
		"misspelt after a comment":  key + " bob alow=a:1",
		"capitals after a comment":  key + " bob Allow=a:1",
		"capitals after a #":        key + " # Allow=a:1",
		"option twice":              key + " allow=a:1 allow=b:1",
		"empty option":              key + " allow=",
		"empty rule":                key + " allow=a:1,,b:1",
		"rule with an empty end":    key + " reverse=a:1,",
		"rules with a space":        key + " allow=a:1, b:1",
		"key file's line":           `{"secretkey":[1,2,3` + strings.Repeat(",77", 29) + `]}`,
		"line without end":          key + " " + strings.Repeat("x", maxTrustLine),
		"key with a trailing break": key + "\v=",
	} {
		list, err := ParseAuthorizedKeys(strings.NewReader(first + "\n\n" + line + "\n"))
		var bad *LineError
		if !errors.As(err, &bad) || bad.Line != 3 || list != nil ||
			!strings.HasPrefix(err.Error(), "line 3: ") {
			t.Errorf("%s: got %v, %v", name, list, err)
		} else if strings.Contains(err.Error(), key[:10]) ||
			strings.Contains(err.Error(), "77,77") {
			t.Errorf("%s: the error quotes the line: %v", name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := ParseAuthorizedKeys(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	long := strings.Repeat("#"+strings.Repeat("x", 1000)+"\n", maxTrustFile/1000)
	if _, err := ParseAuthorizedKeys(strings.NewReader(long)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file without end: %v", err)
	}
}

func TestAuthorizedKeysCount(t *testing.T) {
	var text strings.Builder
	for i := range maxAuthorizedKeys {
		fmt.Fprintln(&text, PublicKey{9, byte(i), byte(i >> 8), 1})
	}
	list, err := ParseAuthorizedKeys(strings.NewReader(text.String()))
	if err != nil || len(list.entries) != maxAuthorizedKeys {
		t.Fatalf("%d keys, %v", len(list.entries), err)
	}
	if got, ok := list.Lookup(PublicKey{9, 1, 2, 1}); !ok || got.Line != 0x201+1 {
		t.Errorf("got %v, %v", got, ok)
	}
	fmt.Fprintln(&text, PublicKey{9, 9, 9, 9})
	_, err = ParseAuthorizedKeys(strings.NewReader(text.String()))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
}

// TestLineLength: the longest line is read, with either break and without one.
func TestLineLength(t *testing.T) {
	key := newKeyPair(t).Public().String() + " "
	line := key + strings.Repeat("x", maxTrustLine-len(key))
	for _, end := range []string{"", "\n", "\r\n"} {
		list, err := ParseAuthorizedKeys(iotest.OneByteReader(strings.NewReader(line + end)))
		if err != nil || len(list.entries) != 1 {
			t.Errorf("%q at the end: %v", end, err)
		}
	}
	_, err := ParseAuthorizedKeys(strings.NewReader(line + "xxx\n"))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("a longer one: %v", err)
	}
}

// formatAuthorizedKey returns a line that is read as the entry.
func formatAuthorizedKey(entry AuthorizedKey) string {
	line := entry.Key.String()
	for _, option := range []struct{ name, value string }{
		{"allow", strings.Join(entry.Allow, ",")}, {"reverse", strings.Join(entry.Reverse, ",")},
		{"sessions", entry.Sessions}, {"streams", entry.Streams},
		{"rate", entry.Rate}, {"quota", entry.Quota},
	} {
		if option.value != "" {
			line += " " + option.name + "=" + option.value
		}
	}
	return line + " # " + entry.Comment
}

// FuzzAuthorizedKeys checks that the entries of a list, formatted as lines, parse to the same list,
// and that errors are of the documented kinds.
func FuzzAuthorizedKeys(f *testing.F) {
	a, b := PublicKey{9}.String(), PublicKey{9, 1}.String()
	for _, seed := range []string{
		a, a + " bob", a + " allow=x:1,y:2 reverse=z:* # bob\n\n#" + b + "\n" + b + "\r\n",
		a + "\n" + a, a + " alow=x", a + " x allow=y",
		"\x00", strings.Repeat("A", 43), a + " allow=", a + "\u00a0bob\u2028#", a + " #", a + " = ",
		"\xff" + a, a + " sessions=1 streams=2 rate=1K/- quota=3G", a + " #allow=x:1,y:2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseAuthorizedKeys(strings.NewReader(text))
		if err != nil {
			var line *LineError
			if !errors.As(err, &line) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		for _, entry := range list.entries {
			got, ok := list.Lookup(entry.Key)
			if !ok || got.Line != entry.Line {
				t.Fatalf("looked up %+v, got %+v", entry, got)
			}
			line := formatAuthorizedKey(entry)
			again, err := ParseAuthorizedKeys(strings.NewReader(line))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			entry.Line = 1
			if !reflect.DeepEqual(again.entries, []AuthorizedKey{entry}) {
				t.Fatalf("%+v\nis read again as %+v", entry, again.entries)
			}
		}
	})
}
