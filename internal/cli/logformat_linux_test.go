package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/cli/exit"
)

// logged runs a remote until it is up, and returns its log. Its standard error is a terminal, or
// else a pipe.
func logged(t *testing.T, terminal bool, variables []string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "CULVERT_LOG_FORMAT" || name == "NO_COLOR" || name == "TERM"
	})
	env = append(env, "HOME="+dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	s := &stage{dir: dir, env: append(env, variables...)}
	cmd := s.plain(append([]string{"remote", "--listen", "127.0.0.1:0", "--allow-anyone",
		"--print-ready"}, args...)...)
	if !terminal {
		p := startIn(t, cmd, false)
		awaitLine(t, p)
		p.send(t, syscall.SIGTERM)
		checkStatus(t, p, exit.OK)
		return p.stderr.String()
	}
	controller, tty := openTerminal(t)
	screen, copied := recordTerminal(controller)
	cmd.Stderr = tty
	p := startIn(t, cmd, false)
	tty.Close()
	awaitLine(t, p)
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, exit.OK)
	<-copied
	return strings.ReplaceAll(screen.String(), "\r\n", "\n")
}

// checkJSON checks that each line of a log is an event in JSON, and that one of them is message.
func checkJSON(t *testing.T, log, message string) {
	t.Helper()
	found := false
	for line := range strings.Lines(log) {
		var event struct{ Time, Level, Message string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", event.Time)
		if err != nil || time.Since(at).Abs() > time.Hour || event.Level == "" {
			t.Errorf("%q: %v", line, err)
		}
		found = found || event.Message == message
	}
	if !found {
		t.Errorf("no event %q in\n%s", message, log)
	}
}

// TestLogFormat shows which format the log has by default, and that --log-format decides.
func TestLogFormat(t *testing.T) {
	t.Parallel()
	plain := regexp.MustCompile(
		`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) INF remote up key=`)
	const escape = "\x1b["
	for name, test := range map[string]struct {
		terminal  bool
		variables []string
		args      []string
		format    string
	}{
		"pipe":               {false, nil, nil, "json"},
		"pipe, console":      {false, nil, []string{"--log-format", "console"}, "plain"},
		"pipe, variable":     {false, []string{"CULVERT_LOG_FORMAT=console"}, nil, "plain"},
		"terminal":           {true, []string{"TERM=xterm", "NO_COLOR="}, nil, "color"},
		"terminal, json":     {true, []string{"TERM=xterm"}, []string{"--log-format", "json"}, "json"},
		"terminal, NO_COLOR": {true, []string{"TERM=xterm", "NO_COLOR=1"}, nil, "plain"},
		"dumb terminal":      {true, []string{"TERM=dumb"}, nil, "plain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := logged(t, test.terminal, test.variables, test.args...)
			colored := strings.Contains(log, escape)
			if colored != (test.format == "color") {
				t.Errorf("the log is\n%q", log)
			}
			switch test.format {
			case "json":
				checkJSON(t, log, "remote up")
			case "plain":
				if !plain.MatchString(log) {
					t.Errorf("the log is\n%s", log)
				}
			case "color":
				bare := regexp.MustCompile(`\x1b\[\d*m`).ReplaceAllString(log, "")
				if !plain.MatchString(bare) {
					t.Errorf("the log is\n%q", log)
				}
			}
		})
	}
}

// TestColorIsOurs shows that what others send can't color a terminal, or do worse to it.
func TestColorIsOurs(t *testing.T) {
	var out strings.Builder
	w := logFormat{console: true, color: true}.writer(&out)
	event := "{\"level\":\"warn\",\"message\":\"a\\u001b[31m\u009b31m\"," +
		"\"field\":\"b\u009b31m\",\"list\":[\"c\\u001b[31m\",\"\u009b\"]}\n"
	if _, err := w.Write([]byte(event)); err != nil {
		t.Fatal(err)
	}
	bare := regexp.MustCompile(`\x1b\[\d*m`).ReplaceAllString(out.String(), "")
	if strings.Contains(out.String(), "\x1b[31m\u009b") || strings.ContainsAny(bare, "\x1b\u009b") ||
		!strings.Contains(bare, `WRN a\x1b[31m\u009b31m`) {
		t.Errorf("%q", out.String())
	}
}

// TestLogForJournal has systemd's journal read the log, and the error that ends a program: each
// line begins with its priority, which no other reader gets.
func TestLogForJournal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	run := func(journals bool, args ...string) string {
		file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if !journals {
			stat.Ino++
		}
		cmd := s.plain(args...)
		cmd.Env = append(cmd.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino))
		cmd.Stderr = file
		p := startIn(t, cmd, false)
		if slices.Contains(args, "--print-ready") {
			awaitLine(t, p)
			p.send(t, syscall.SIGTERM)
		}
		if _, err := p.wait(); err != nil {
			t.Fatal(err)
		}
		return readText(t, file.Name())
	}
	remote := []string{"remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready",
		"--log-level", "debug"}
	for _, format := range []string{"json", "console"} {
		text := run(true, append(remote, "--log-format", format)...)
		for _, want := range []string{`(?m)^<4>.*everybody is admitted`, `(?m)^<6>.*remote up`} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
		if line := regexp.MustCompile(`(?m)^([^<]|<[^3467]).*$`).FindString(text); line != "" {
			t.Errorf("no priority: %s", line)
		}
	}
	checkJSON(t, run(false, append(remote, "--log-format", "json")...), "remote up")
	text := run(true, "remote", "--listen", "nowhere", "--allow-anyone")
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 2 ||
		!strings.HasPrefix(lines[0], "<3>culvert: bad --listen") ||
		!strings.HasPrefix(lines[1], "<3>it is PORT") {
		t.Errorf("the error is %q", text)
	}
}
