package flags

import (
	"slices"
	"strings"
	"testing"
)

func TestCandidates(t *testing.T) {
	app, _ := testApp()
	for _, test := range []struct{ line, want string }{
		{"lo", "local"},
		{"c", "check cert completion"},
		{"help ke", "keygen"},
		{"cert ", "ca issue show verify"},
		{"cert i", "issue"},
		{"bogus ", ""},
		{"local --so", "--socks --socks-auth"},
		{"local ws://example.org/ --socks-a", "--socks-auth"},
		{"local --socks none --print", "--print-ready"},
		{"local -", "*"},
		{"local --key ", ""}, // files
		{"local --log-level ", "debug info warn error disabled"},
		{"local --log-level=w", "--log-level=warn"},
		{"local --fast-open ", "auto always never"},
		{"run --fast-open=a", "--fast-open=auto --fast-open=always"},
		{"local --accept-new w", ""},
		{"cert issue --ca-k", "--ca-key"},
		{"run ws://example.org/ -- curl --pro", ""},
		{"completion ", "bash zsh fish powershell"},
	} {
		words := strings.Split(test.line, " ")
		var got []string
		for _, c := range app.candidates(words[:len(words)-1], words[len(words)-1]) {
			got = append(got, c.word)
		}
		want := strings.Fields(test.want)
		if test.want == "*" {
			want = []string{"--help"}
			for _, f := range find(app.Commands, "local").Flags() {
				for _, name := range f.Names() {
					want = append(want, spellFlag(name))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", test.line, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{
		"remote-key", "socks", "socks-auth", "L", "W", "keepalive", "require-forward-secrecy",
	}
	for word, want := range map[string]string{
		"remotekey": "remote-key", "remote_key": "remote-key",
		"sock": "socks", "SOCKS": "socks", "scoks": "socks",
		"l": "L", "X": "", "": "", "bogus": "",
		"require": "require-forward-secrecy", "keep-alive": "keepalive",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
