package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
)

func TestListenAddress(t *testing.T) {
	for text, want := range map[string]string{
		"1080":           "HOST:1080",
		"0":              "HOST:0",
		"*:1086":         ":1086",
		":8080":          ":8080",
		"127.0.0.1:1080": "127.0.0.1:1080",
		"[::1]:1080":     "[::1]:1080",
		"[::]:1080":      "[::]:1080",
		"localhost:1080": "localhost:1080",
		"unix:socket":    "unix:socket",
		"unix:1080":      "unix:1080",
	} {
		if got, err := listenAddress("socks", text, "HOST", "1080"); got != want || err != nil {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
	for text, why := range map[string]string{
		"":             "the port is missing",
		"localhost":    "the port is missing",
		"192.0.2.1":    "the port is missing",
		"::1:1080":     "an IPv6 address must be in brackets",
		"[::1]":        "brackets enclose an IPv6 address, and :PORT follows",
		"[::1:1080":    "brackets enclose an IPv6 address, and :PORT follows",
		"10x80":        "port must be 0 to 65535",
		"65536":        "port must be 0 to 65535",
		":http":        "port must be 0 to 65535",
		"localhost:":   "port must be 0 to 65535",
		"localhost:-1": "port must be 0 to 65535",
		"unix:":        "the socket's path is empty",
	} {
		_, err := listenAddress("socks", text, "HOST", "1080")
		bad, ok := errors.AsType[*flags.ValueError](err)
		if !ok || bad.Why != why || bad.Value != text || bad.Flag != "socks" {
			t.Errorf("%q: got %+v", text, err)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 30 * time.Second: "30s", 2 * time.Minute: "2m",
		90 * time.Second: "1m30s", time.Hour: "1h", 20 * time.Hour: "20h",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: got %s", d, got)
		}
	}
}

// someKey is a public key.
const someKey = "AYdV9KFSUZjppL8krv9qKiUwVRZ9NiYmYbTznONuLz0"

// badValues are values that most flags refuse.
var badValues = []string{
	"10x80", "", "-1", "99999999999999999999", "http://[::1", "127.0.0.1:2:3", "/dev/null/file",
}

// goText is what Go's errors say to programmers.
var goText = regexp.MustCompile(`parse error|context deadline|strconv\.|dial tcp|` +
	`lookup .* on |net/url|parse "|invalid (syntax|character|URL)|time: |netip\.|ParseAddr|` +
	`%!|0x[0-9a-f]{6}|runtime error|missing port in address|too many colons|goroutine|x509: ` +
	`|tls: |unexpected EOF|unexpected end of JSON`)

// TestBadValues gives each flag of each command values that it may refuse, in each way that there
// is. The commands run, so this is a process of its own. No error has Go's words, and one that is
// about the value shows the flag as it was typed, or where else the value is.
func TestBadValues(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("badvalues")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	report, err := os.ReadFile(filepath.Join(cmd.Dir, "report"))
	if err != nil || string(report) != "" {
		t.Errorf("%v\n%s", err, report)
	}
}

func init() { programs["badvalues"] = badValuesMain }

// badValuesMain writes to the file report what is wrong.
func badValuesMain() {
	out := openOutputs()
	report, err := os.Create("report")
	if err != nil {
		panic(err)
	}
	tried := 0
	eachCommand(newApp("test", out), func(name string, command *flags.Command) {
		for _, f := range command.Flags() {
			for _, value := range badValues {
				for _, way := range waysToGive(f, value) {
					tried++
					if wrong := tryValue(out, command, f, value, way); wrong != "" {
						fmt.Fprintf(report, "%s, %s: %s\n", name, strings.Join(way.args, " "), wrong)
					}
				}
			}
		}
	})
	if tried < 500 {
		fmt.Fprintln(report, "only", tried, "values were tried")
	}
	os.Exit(0)
}

// wayToGive is how a flag gets a value: on the command line, by its variable, or by the file.
type wayToGive struct {
	args           []string
	variable, file string
	shown          string // where an error has to say that the value is
}

func waysToGive(f *flags.Flag, value string) []wayToGive {
	var ways []wayToGive
	for _, name := range f.Names() {
		ways = append(ways, wayToGive{args: []string{spell(name) + "=" + value}, shown: spell(name)})
	}
	name := f.Names()[0]
	if name == "config" || value != badValues[0] {
		return ways
	}
	file := fmt.Sprintf("\n%s = %q\n", name, value)
	return append(ways,
		wayToGive{variable: value, shown: f.Variable()},
		wayToGive{file: file, args: []string{"-F", "c.toml"}, shown: "c.toml: line 2"})
}

// tryValue runs a command with a flag's value, and returns what is wrong with its error.
func tryValue(
	out *outputs, command *flags.Command, f *flags.Flag, value string, way wayToGive,
) string {
	path := command.Path()
	args := slices.Concat([]string{"culvert"}, path)
	for _, word := range strings.Fields(needed[strings.Join(path, " ")]) {
		word = strings.Replace(word, "localhost", "127.0.0.1:1", 1)
		word = strings.Replace(word, "key=x", "key="+someKey, 1)
		if word == "--" {
			args = append(args, way.args...)
		}
		args = append(args, word)
	}
	if !slices.Contains(args, "--") {
		args = append(args, way.args...)
	}
	if way.variable != "" {
		os.Setenv(f.Variable(), way.variable)
		defer os.Unsetenv(f.Variable())
	}
	if err := os.WriteFile("c.toml", []byte(way.file), 0o600); err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if path[0] == "remote" || path[0] == "demo" {
		cancel() // or it would serve
	}
	var report strings.Builder
	err := newApp("test", out).Run(ctx, args)
	if err == nil {
		return ""
	}
	exit.Report(&report, err)
	text := report.String()
	if found := goText.FindString(text); found != "" {
		return fmt.Sprintf("%q in %s", found, text)
	}
	bad, isValue := errors.AsType[*flags.ValueError](err)
	if isValue {
		return fmt.Sprintf("not explained: %+v", bad)
	}
	if strings.HasPrefix(text, "culvert: bad ") && !strings.Contains(text, way.shown) {
		if f.Names()[0] == "config" {
			return "" // it is about what a file holds that another value has made
		}
		return fmt.Sprintf("want %s in %s", way.shown, text)
	}
	return ""
}
