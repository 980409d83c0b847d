package shellquote

import "testing"

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"":                   "''",
		"wss://h:443/a?b=1":  "'wss://h:443/a?b=1'",
		"/etc/key.json":      "/etc/key.json",
		"/home/a b/key.json": "'/home/a b/key.json'",
		"it's":               `'it'\''s'`,
		"$HOME":              "'$HOME'",
		"~":                  "'~'",
	} {
		if got := Quote(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}
