package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stepTimeout bounds one command of a transcript, and each wait for something to happen.
const stepTimeout = 20 * time.Second

// step is one command of a transcript and its output, standard output and standard error as they
// come. A status other than 0 follows as "[exit N]".
type step struct {
	command string
	want    string
}

// parseTranscript parses commands, which begin with "$ " and continue after a backslash at the end
// of a line, and their output. Text before the first command is an error, since nothing would check
// it.
func parseTranscript(text string) ([]step, error) {
	var steps []step
	goesOn := false
	for line := range strings.Lines(text) {
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case goesOn:
			steps[len(steps)-1].command += line
		case begins:
			steps = append(steps, step{command: command})
		case len(steps) == 0:
			return nil, fmt.Errorf("%q precedes the first command", line)
		default:
			steps[len(steps)-1].want += line
			continue
		}
		goesOn = strings.HasSuffix(line, "\\\n")
	}
	if len(steps) == 0 {
		return nil, errors.New("no commands")
	}
	return steps, nil
}

// shell runs commands for transcripts.
type shell struct {
	dir string
	env []string
}

// command prepares a command for bash. It has no terminal, not even a controlling one. When ctx is
// done, it is killed, with all processes that it started.
func (s *shell) command(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", text)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// run returns the output of a command, with its status as in a transcript.
func (s *shell) run(text string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	output, err := s.command(ctx, text).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return string(output), fmt.Errorf("%s: still running after %v",
			strings.TrimSpace(text), stepTimeout)
	case errors.As(err, &exit):
		return fmt.Sprintf("%s[exit %d]\n", output, exit.ExitCode()), nil
	}
	return string(output), err
}

// masks hide what varies from run to run.
var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(` +[0-9]+\.[0-9] ms`), " # ms"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?(Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(` session=[0-9a-f]{8}\b`), " <session>"},
	{regexp.MustCompile(`aes-256-gcm|chacha20-poly1305`), "<suite>"}, // the faster one here
	// The congestion control is the system's.
	{regexp.MustCompile(`(?m) congestion=\w+|, (bbr|cubic|reno)$`), " <congestion>"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "<gid>"},
}

func mask(text string) string {
	for _, m := range masks {
		text = m.pattern.ReplaceAllLiteralString(text, m.with)
	}
	return text
}

// differ returns an error with both texts, or nil if they are equal.
func differ(got, want string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("got:\n%swant:\n%s", got, want)
}

func TestParseTranscript(t *testing.T) {
	steps, err := parseTranscript("$ a \\\n  b\n$ c\nd\n[exit 1]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []step{{"a \\\n  b\n", ""}, {"c\n", "d\n[exit 1]\n"}}
	if fmt.Sprint(steps) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", steps, want)
	}
	for _, bad := range []string{"", "output\n", "output\n$ a\n"} {
		if _, err := parseTranscript(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestShell shows that a transcript can fail on a wrong status or text, and that its commands have
// no terminal.
func TestShell(t *testing.T) {
	s := &shell{dir: t.TempDir(), env: os.Environ()}
	got, err := s.run("echo out; echo err >&2; exit 7")
	if err != nil || got != "out\nerr\n[exit 7]\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if differ(got, "out\nerr\n[exit 6]\n") == nil {
		t.Error("another status is no difference")
	}
	got, _ = s.run("tty -s < /dev/tty && echo terminal")
	if strings.Contains(got, "terminal\n") {
		t.Error("the shell has a terminal")
	}
}
