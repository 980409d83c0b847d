package flags

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
)

// TestValueError gives a command a value that it refuses, in each way that there is.
func TestValueError(t *testing.T) {
	const refused = `"x y": it has a space`
	for _, test := range []struct{ args, variable, file, what, hint string }{
		{args: "--socks|x y", what: "bad --socks " + refused, hint: "give two, such as --socks 'a b'"},
		{args: "--socks=x y", what: "bad --socks " + refused, hint: "give two, such as --socks 'a b'"},
		{args: "-D|x y", what: "bad -D " + refused, hint: "give two, such as -D 'a b'"},
		{args: "-Dx y", what: "bad -D " + refused, hint: "give two, such as -D 'a b'"},
		{args: "-vDx y", what: "bad -D " + refused, hint: "give two, such as -D 'a b'"},
		{variable: "x y", what: "bad CULVERT_SOCKS " + refused,
			hint: "give two, such as CULVERT_SOCKS='a b'"},
		{file: "\nsocks = 'x y'\n",
			what: "bad configuration: FILE: line 2: socks " + refused,
			hint: `give two, such as socks = "a b"`},
		{file: "[local]\nsocks = 'x y'\n", args: "-v",
			what: "bad configuration: FILE: line 2: socks " + refused,
			hint: `give two, such as socks = "a b"`},
	} {
		var socks, typed string
		var verbose bool
		app := NewApp("culvert", "test", "v0", &Command{
			Name: "local", Define: func(s *Set) {
				s.String(&socks, "socks,D", "", "`ADDR`").TypedAs(&typed)
				s.Bool(&verbose, "v", "verbose")
			}, Run: func(context.Context) error {
				return &ValueError{Flag: "socks", Value: socks, Why: "it has a space",
					Form: "give two", Example: "a b"}
			},
		})
		t.Setenv("CULVERT_SOCKS", test.variable)
		if test.variable == "" {
			os.Unsetenv("CULVERT_SOCKS")
		}
		args := []string{"culvert", "local"}
		if test.args != "" {
			args = append(args, strings.Split(test.args, "|")...)
		}
		path := filepath.Join(t.TempDir(), "config.toml")
		if test.file != "" {
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--config", path)
		}
		err := app.Run(t.Context(), args)
		want := strings.ReplaceAll(test.what, "FILE", path)
		failure, ok := errors.AsType[*exit.Failure](err)
		if !ok || failure.Code != exit.Usage || failure.What != want || failure.Hint != test.hint {
			t.Errorf("%+v: got %+v", test, err)
		}
		if strings.Contains(test.args, "-D") && typed != "-D" || test.variable != "" &&
			typed != "CULVERT_SOCKS" || test.args == "" && test.variable == "" && typed != "--socks" {
			t.Errorf("%+v: typed as %q", test, typed)
		}
	}
}

// TestSecretValueError shows no secret, resolved or not.
func TestSecretValueError(t *testing.T) {
	bad := &ValueError{Flag: "auth", Value: "alice:secret", Secret: true, Example: "USER:PASS"}
	f := &Flag{names: []string{"auth"}, secret: true}
	for _, err := range []error{bad, explain(bad, []*Flag{f}), explain(
		&ValueError{Flag: "auth", Value: "alice:secret"}, []*Flag{f})} {
		if text := err.Error(); text != "bad --auth" {
			t.Errorf("got %q", text)
		}
	}
}

func TestLetters(t *testing.T) {
	app, _ := testApp()
	local := find(app.Commands, "local")
	for arg, want := range map[string]string{
		"-D1080":        "-D 1080",
		"-L8085:h:80":   "-L 8085:h:80",
		"-Lunix:a=b:h":  "-L unix:a=b:h",
		"-D=1080":       "-D=1080",
		"-D":            "-D",
		"-D-1":          "-D -1",
		"-socks":        "-socks",
		"-socks=x":      "-socks=x",
		"--socks":       "--socks",
		"-x1":           "-x1",
		"-":             "-",
		"-key":          "-key",
		"-L\u00e9:1:2":  "-L \u00e9:1:2",
		"-\u00e9:1:2":   "-\u00e9:1:2",
		"-accept-newly": "-accept-newly",
	} {
		if got := letters(local.set.flags, arg); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %q", arg, got)
		}
	}
}
