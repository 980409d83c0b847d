package flags

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/cli/exit"
)

func TestConfigErrors(t *testing.T) {
	app, _ := testApp()
	for _, test := range []struct {
		text string
		line int
		what string
		hint string
	}{
		{"a\n", 1, `expected '.' or '=', but got '\n' instead`, ""},
		{"\nsocsk = ''\n", 2, `unknown key "socsk"`, "did you mean socks?"},
		{"D = ''\n", 1, `unknown key "D"`, ""},
		{"config = ''\n", 1, `unknown key "config"`, ""},
		{"[local]\nkeep-alive = '1s'\n", 2,
			`unknown key "keep-alive" in [local]`, "did you mean keepalive?"},
		{"[local]\nlisten = ''\n", 2, `unknown key "listen" in [local]`, ""},
		{"[check]\nsocks = ''\n", 2, `unknown key "socks" in [check]`, ""},
		{"[[local]]\n", 1, "more than one table for local", "it is [local]"},
		{"\n[locla]\n", 2, "unknown table [locla]", "did you mean local?"},
		{"[cert.isue]\n", 1, "unknown table [cert.isue]", "did you mean issue?"},
		{"[cert]\nname = ''\n", 2, `unknown key "name" in [cert]`, ""},
		{"\nbogus.socks = 1\n", 2, "unknown table [bogus]", ""},
		{"[local.socks]\n", 1, "unknown table [local.socks]", ""},
		{"local = 'x'\n", 1, `unknown key "local"`, ""},
		{"keepalive = 20\n", 1, `keepalive: want a duration as in "20s", got a whole number`, ""},
		{"keepalive = '20'\n", 1, `keepalive: want a duration as in "20s", got a string`, ""},
		{"max-streams = '20'\n", 1, "max-streams: want a number, got a string", ""},
		{"max-streams = 2.5\n", 1, "max-streams: want a number, got a number with a fraction", ""},
		{"accept-new = 1\n", 1, "accept-new: want true or false, got a whole number", ""},
		{"path = ['/']\n", 1, "path: want a string, got an array", ""},
		{"listen = [1]\n", 1, "listen: want a string, or an array of strings, got an array", ""},
		{"listen = true\n", 1, "listen: want a string, or an array of strings, got true or false", ""},
		{"path = 2026-01-01\n", 1, "path: want a string, got a date", ""},
		{"[remote]\nmax-streams = 1\npath = 1\nbogus = 1\n", 3,
			"path: want a string, got a whole number", ""},
		{"socks-auth = alice:secret\n", 1, "socks-auth: not a TOML value; strings need quotes", ""},
		{"[local]\nsocks-auth = 'alice:secret\n", 2,
			"socks-auth: not a TOML value; strings need quotes", ""},
		{"socks-auth = ['alice:secret']\n", 1, "socks-auth: want a string, got an array", ""},
		{"key = 'a'\nkey = 'b'\n", 2, "Key 'key' has already been defined.", ""},
	} {
		_, err := parseConfig(test.text, app.Commands)
		var bad *configError
		if !errors.As(err, &bad) || bad.line != test.line || bad.what != test.what ||
			strings.Contains(bad.hint, "secret") ||
			(strings.HasPrefix(bad.hint, "did you mean") || test.hint != "") && bad.hint != test.hint {
			t.Errorf("%q: %+v", test.text, bad)
		}
	}
}

// FuzzConfig shows that parsing any file returns settings or an error with a line.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "socks = 'none'\n[local]\nL = ['1:a:1']\n", "[cert.ca]\ndays = 1\n",
		"a.b = {c = [1, {}]}\n", "[[local]]\nx=1",
	} {
		f.Add(seed)
	}
	app, _ := testApp()
	f.Fuzz(func(t *testing.T, text string) {
		_, err := parseConfig(text, app.Commands)
		var bad *configError
		if err != nil && (!errors.As(err, &bad) || bad.line < 1) {
			t.Errorf("%v", err)
		}
	})
}

// TestDecodeAgain changes the file of a running command: only a reloadable flag that nothing else
// sets takes the file's new value.
func TestDecodeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "culvert.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type options struct {
		reloaded, kept, fromLine []string
		keepalive                time.Duration
		given                    bool
		source                   *Source
	}
	define := func(o *options) func(*Set) {
		return func(s *Set) {
			s.Strings(&o.reloaded, "reloaded", []string{"default"}, "`X`").Reloadable().Given(&o.given)
			s.Strings(&o.kept, "kept", nil, "`X`")
			s.Strings(&o.fromLine, "from-line", nil, "`X`").Reloadable()
			s.Duration(&o.keepalive, "keepalive", time.Second, "`TIME`")
			s.Source(&o.source)
		}
	}
	o := &options{}
	run := func(context.Context) error { return nil }
	app := NewApp("culvert", "test", "v0", &Command{Name: "c", Define: define(o), Run: run})
	write("reloaded = 'one'\nkept = 'one'\nfrom-line = 'one'\nkeepalive = '2s'\n")
	args := []string{"culvert", "c", "--config", path, "--from-line", "line"}
	if err := app.Run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	check := func(o *options, reloaded string, given bool) {
		t.Helper()
		if !slices.Equal(o.reloaded, []string{reloaded}) || !slices.Equal(o.kept, []string{"one"}) ||
			!slices.Equal(o.fromLine, []string{"line"}) || o.keepalive != 2*time.Second ||
			o.given != given {
			t.Errorf("got %+v", o)
		}
	}
	check(o, "one", true)

	write("reloaded = 'two'\nkept = 'two'\nfrom-line = 'two'\nkeepalive = '3s'\n")
	now := &options{}
	if err := o.source.Decode(define(now)); err != nil {
		t.Fatal(err)
	}
	check(now, "two", true)
	check(o, "one", true)

	write("keepalive = '3s'\n")
	now = &options{}
	if err := o.source.Decode(define(now)); err != nil {
		t.Fatal(err)
	}
	check(now, "default", false)

	write("reloaded = 'two'\nbogus = 1\n")
	err := o.source.Decode(define(&options{}))
	var failure *exit.Failure
	if !errors.As(err, &failure) || failure.Code != exit.Usage {
		t.Errorf("a wrong file: %v", err)
	}
}

// TestOverrides gives flags that decide the same in several places: the earliest place decides.
func TestOverrides(t *testing.T) {
	for _, test := range []struct {
		line, variable, file string
		want                 string
	}{
		{file: "q = true", want: "quiet"},
		{line: "--level=debug", file: "q = true", want: "debug"},
		{variable: "debug", file: "q = true", want: "debug"},
		{line: "-q", variable: "debug", want: "quiet debug"},
		{line: "-q=false", file: "level = 'debug'", want: "debug"},
		{line: "-q=false", file: "q = true", want: ""},
		{line: "-q=false --level=debug", file: "q = true", want: "debug"},
		{file: "q = true\n[c]\nlevel = 'debug'", want: "debug"},
		{file: "q = true\nlevel = 'debug'", want: "quiet debug"},
		{file: "[hosts.h]\nurl = 'u'\nq = true\n[c]\nv = true", want: "quiet"},
		{line: "-q -v", want: "quiet verbose"},
	} {
		path := filepath.Join(t.TempDir(), "culvert.toml")
		if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Unsetenv("CULVERT_LEVEL")
		if test.variable != "" {
			t.Setenv("CULVERT_LEVEL", test.variable)
		}
		var quiet, verbose, given bool
		var level string
		app := NewApp("culvert", "test", "v0", &Command{
			Name: "c", Hosts: true, Run: func(context.Context) error { return nil },
			Define: func(s *Set) {
				s.Argument("URL", func(string) error { return nil }).Host()
				s.String(&level, "level", "", "`LEVEL`").Given(&given).Overrides("q", "v")
				s.Bool(&quiet, "q", "quiet").Overrides("v")
				s.Bool(&verbose, "v", "verbose").Overrides("q")
			},
		})
		args := append([]string{"culvert", "c", "--config", path}, strings.Fields(test.line)...)
		if err := app.Run(t.Context(), append(args, "h")); err != nil {
			t.Fatalf("%+v: %v", test, err)
		}
		got := []string{}
		if quiet {
			got = append(got, "quiet")
		}
		if verbose {
			got = append(got, "verbose")
		}
		if level != "" {
			got = append(got, level)
		}
		if text := strings.Join(got, " "); text != test.want || given != (level != "") {
			t.Errorf("%+v: got %q, level given: %t", test, text, given)
		}
	}
}
