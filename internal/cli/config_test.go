package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/cli/flags"
)

// eachCommand calls f for each command that does something.
func eachCommand(app *flags.App, f func(name string, command *flags.Command)) {
	for command := range app.Runnable() {
		f(app.Name+" "+strings.Join(command.Path(), " "), command)
	}
}

// sample returns a value for a flag as the configuration file and as a variable have it, and as
// valueOf returns it.
func sample(t *testing.T, f *flags.Flag) (file, variable, want string) {
	t.Helper()
	switch f.Value().(type) {
	case bool:
		return "true", "true", "true"
	case int:
		return "77", "77", "77"
	case time.Duration:
		return `"7m0s"`, "7m0s", "7m0s"
	case string:
		return `"value"`, "value", "value"
	case []string:
		return `["two,three"]`, "two,three", "[two,three]"
	}
	t.Fatalf("--%s: a kind of flag that no value is given to here", f.Names()[0])
	return "", "", ""
}

// TestConfigTakesEveryFlag gives each flag of each command a value in the file, in the command's
// own table and before all tables, and looks at what the command gets.
func TestConfigTakesEveryFlag(t *testing.T) {
	t.Setenv(variableOf("log-format"), "") // is restored
	os.Unsetenv(variableOf("log-format"))
	eachCommand(newApp("test", nil), func(name string, command *flags.Command) {
		table := strings.Join(command.Path(), ".")
		for _, f := range command.Flags() {
			flag := f.Names()[0]
			if flag == "config" || f.IsFromCommandLine() {
				continue
			}
			file, _, want := sample(t, f)
			if _, list := f.Value().([]string); list {
				file, want = `["one", "two,three"]`, "[one two,three]"
			}
			line := flag + " = " + file
			for _, text := range []string{line, "[" + table + "]\n" + line} {
				if text != line && command.Path()[0] == "hosts" {
					continue // [hosts] holds hosts, and no flags of that command
				}
				got, err := valueOf(t, text, command.Path(), flag)
				if err != nil || got != want {
					t.Errorf("%s with %q: --%s is %q, %v", name, text, flag, got, err)
				}
			}
		}
	})
}

// variableOf returns the variable that docs/cli.md promises for a flag.
func variableOf(flag string) string {
	return "CULVERT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// TestVariables gives each flag of each command a value with its environment variable.
func TestVariables(t *testing.T) {
	eachCommand(newApp("test", nil), func(name string, command *flags.Command) {
		for _, f := range command.Flags() {
			flag := f.Names()[0]
			variable := variableOf(flag)
			if f.IsFromCommandLine() {
				notTaken(t, command, flag)
			}
			if flag == "config" || f.IsFromCommandLine() {
				continue
			}
			if got := f.Variable(); got != variable {
				t.Errorf("%s: --%s has the variable %s", name, flag, got)
			}
			_, value, want := sample(t, f)
			t.Setenv(variable, value)
			got, err := valueOf(t, "", command.Path(), flag)
			os.Unsetenv(variable)
			if err != nil || got != want {
				t.Errorf("%s with %s=%s: --%s is %q, %v", name, variable, value, flag, got, err)
			}
		}
	})
}

// notTaken checks that neither the variable nor the file gives a flag its value.
func notTaken(t *testing.T, command *flags.Command, flag string) {
	t.Helper()
	t.Setenv(variableOf(flag), "one")
	got, err := valueOf(t, "", command.Path(), flag)
	os.Unsetenv(variableOf(flag))
	missing := err != nil && err.Error() == "--"+flag+" is missing" // where the command requires it
	if err != nil && !missing || strings.Contains(got, "one") {
		t.Errorf("%v with %s: --%s is %s, %v", command.Path(), variableOf(flag), flag, got, err)
	}
	table := strings.Join(command.Path(), ".")
	if _, err := valueOf(t, "["+table+"]\n"+flag+" = \"one\"", command.Path(), flag); err == nil {
		t.Errorf("%v: the file may have %s", command.Path(), flag)
	}
}

// needed are the flags and arguments that commands require.
var needed = map[string]string{
	"local": "ws://localhost/", "run": "ws://localhost/ -- true", "check": "ws://localhost/",
	"speed": "ws://localhost/", "authorize": someKey, "hosts forget": "x",
	"cert ca":     "--name=x --out=x --cert-out=x",
	"cert issue":  "--ca-key=x --public-key=x --out=x",
	"cert verify": "--ca=x CERTIFICATE",
	"forward add": "x", "forward cancel": "x", "reload": "x",
}

// valueOf runs a command whose configuration file holds text, and instead of what it does takes the
// value of a flag.
func valueOf(
	t *testing.T, text string, path []string, flag string, args ...string,
) (value string, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "culvert.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	app := newApp("test", nil)
	eachCommand(app, func(_ string, command *flags.Command) {
		command.Run = func(context.Context) error {
			for _, f := range command.Flags() {
				if f.Names()[0] == flag {
					value = fmt.Sprint(f.Value())
				}
			}
			return nil
		}
	})
	words := slices.Concat([]string{"culvert"}, path, []string{"--config", file}, args)
	for _, word := range strings.Fields(needed[strings.Join(path, " ")]) {
		if !strings.HasPrefix(word, "--"+flag+"=") {
			words = append(words, word)
		}
	}
	err = app.Run(t.Context(), words)
	return value, err
}

func TestConfigPrecedence(t *testing.T) {
	text := "keepalive = '1s'\nL = ['1:a:1']\n[local]\nkeepalive = '2s'\nL = '2:b:2'\n"
	local, check := []string{"local"}, []string{"check"}
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
		{local, "connect-timeout", nil, "", "30s"},
		{local, "handshake-timeout", nil, "", "0s"},
		{local, "L", nil, "", "[2:b:2]"},
		{local, "L", nil, "3:c:3", "[3:c:3]"},
		{local, "L", []string{"-L", "4:d:4"}, "3:c:3", "[4:d:4]"},
		{[]string{"run"}, "L", nil, "", "[1:a:1]"},
	} {
		if test.variable != "" {
			t.Setenv(variableOf(test.flag), test.variable)
		} else {
			os.Unsetenv(variableOf(test.flag))
		}
		got, err := valueOf(t, text, test.words, test.flag, test.flags...)
		if err != nil || got != test.want {
			t.Errorf("%v: got %s, %v", test, got, err)
		}
	}
	// An empty array in the command's table overrides those before all tables.
	got, err := valueOf(t, "L = '1:a:1'\n[local]\nL = []\n", local, "L")
	if err != nil || got != "[]" {
		t.Errorf("got %s, %v", got, err)
	}
	// -D is another name of --socks.
	got, err = valueOf(t, "socks = 'none'\n", local, "socks", "-D", "127.0.0.1:1")
	if err != nil || got != "127.0.0.1:1" {
		t.Errorf("got %s, %v", got, err)
	}
}
