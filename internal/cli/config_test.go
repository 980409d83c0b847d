package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestConfigTakesEveryFlag gives each flag of each command a value by the file, in the command's own table and before all
// tables, and looks at what the command gets.
func TestConfigTakesEveryFlag(t *testing.T) {
	eachCommand(newApp("test"), func(name string, command *cli.Command) {
		words := strings.Fields(name)
		table := strings.Join(words[1:], ".")
		for _, f := range command.Flags {
			flag := f.Names()[0]
			if flag == "config" {
				continue
			}
			given, want := "", ""
			switch f.(type) {
			case *cli.BoolFlag:
				given, want = "true", "true"
			case *cli.IntFlag:
				given, want = "77", "77"
			case *cli.DurationFlag:
				given, want = `"7m0s"`, "7m0s"
			case *cli.StringFlag:
				given, want = `"value"`, "value"
			case *cli.StringSliceFlag:
				given, want = `["one", "two,three"]`, "[one two,three]"
			default:
				t.Errorf("%s --%s: a kind of flag that no value is given to here", name, flag)
				continue
			}
			for _, text := range []string{flag + " = " + given, "[" + table + "]\n" + flag + " = " + given} {
				if strings.HasPrefix(text, "name") && words[1] == "cert" {
					continue // the two commands that have it want different kinds
				}
				got, err := valueOf(t, text, words, flag)
				if err != nil || got != want {
					t.Errorf("%s with %q: --%s is %q, %v", name, text, flag, got, err)
				}
			}
		}
	})
}

// valueOf runs a command whose configuration file holds text, in place of its action takes the value of a flag.
func valueOf(t *testing.T, text string, words []string, flag string, flags ...string) (value string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "culvert.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	app := newApp("test")
	command := app.Command(words[1])
	if len(words) > 2 {
		command = command.Command(words[2])
	}
	command.Action = func(c *cli.Context) error {
		value = fmt.Sprint(c.Value(flag))
		if list, ok := c.Value(flag).(cli.StringSlice); ok {
			value = fmt.Sprint(list.Value())
		}
		return nil
	}
	err = app.Run(append(append(append([]string{}, words...), "--config", path), flags...))
	return value, err
}

func TestConfigPrecedence(t *testing.T) {
	text := "keepalive = '1s'\nL = ['1:a:1']\n[local]\nkeepalive = '2s'\nL = '2:b:2'\n"
	local, check := []string{"culvert", "local"}, []string{"culvert", "check"}
	for _, test := range []struct {
		words    []string
		flag     string
		flags    []string
		variable string
		want     string
	}{
		{check, "keepalive", nil, "", "1s"},
		{local, "keepalive", nil, "", "2s"},
		{local, "keepalive", nil, "3s", "3s"},
		{local, "keepalive", []string{"--keepalive", "4s"}, "3s", "4s"},
		{local, "keepalive", []string{"--keepalive", "4s"}, "", "4s"},
		{local, "handshake-timeout", nil, "", "10s"},
		{local, "L", nil, "", "[2:b:2]"},
		{local, "L", nil, "3:c:3", "[3:c:3]"},
		{local, "L", []string{"-L", "4:d:4"}, "3:c:3", "[4:d:4]"},
		{[]string{"culvert", "run"}, "L", nil, "", "[1:a:1]"},
	} {
		if test.variable != "" {
			t.Setenv(env(test.flag)[0], test.variable)
		} else {
			os.Unsetenv(env(test.flag)[0])
		}
		got, err := valueOf(t, text, test.words, test.flag, test.flags...)
		if err != nil || got != test.want {
			t.Errorf("%v: got %s, %v", test, got, err)
		}
	}
	// An empty array in the command's table is none of those before all tables.
	if got, err := valueOf(t, "L = '1:a:1'\n[local]\nL = []\n", local, "L"); err != nil || got != "[]" {
		t.Errorf("got %s, %v", got, err)
	}
	// -D is --socks by another name.
	if got, err := valueOf(t, "socks = 'none'\n", local, "socks", "-D", "127.0.0.1:1"); err != nil || got != "127.0.0.1:1" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestConfigErrors(t *testing.T) {
	commands := newApp("test").Commands
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
		{"[local]\nkeep-alive = '1s'\n", 2, `unknown key "keep-alive" in [local]`, "did you mean keepalive?"},
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
		{"[remote]\nmax-streams = 1\npath = 1\nbogus = 1\n", 3, "path: want a string, got a whole number", ""},
		{"socks-auth = alice:secret\n", 1, "socks-auth: not a TOML value; strings stand in quotes", ""},
		{"[local]\nsocks-auth = 'alice:secret\n", 2, "socks-auth: not a TOML value; strings stand in quotes", ""},
		{"socks-auth = ['alice:secret']\n", 1, "socks-auth: want a string, got an array", ""},
		{"key = 'a'\nkey = 'b'\n", 2, "Key 'key' has already been defined.", ""},
	} {
		_, err := parseConfig(test.text, commands)
		var bad *configError
		if !errors.As(err, &bad) || bad.line != test.line || bad.what != test.what || strings.Contains(bad.hint, "secret") ||
			(strings.HasPrefix(bad.hint, "did you mean") || test.hint != "") && bad.hint != test.hint {
			t.Errorf("%q: %+v", test.text, bad)
		}
	}
}

// FuzzConfig shows that whatever a file holds, reading it ends with settings or an error that has a line.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{"", "socks = 'none'\n[local]\nL = ['1:a:1']\n", "[cert.ca]\ndays = 1\n", "a.b = {c = [1, {}]}\n", "[[local]]\nx=1"} {
		f.Add(seed)
	}
	commands := newApp("test").Commands
	f.Fuzz(func(t *testing.T, text string) {
		_, err := parseConfig(text, commands)
		var bad *configError
		if err != nil && (!errors.As(err, &bad) || bad.line < 1) {
			t.Errorf("%v", err)
		}
	})
}
