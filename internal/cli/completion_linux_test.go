package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shellSetups make shells complete culvert's command lines, and prompt with "ready> ".
var shellSetups = map[string]struct {
	args []string
	file string
	text string
}{
	"bash": {[]string{"--noprofile", "--rcfile", "rc", "-i"}, "rc",
		"PS1='ready> '; source <(culvert completion bash)\n"},
	"zsh": {[]string{"-d", "-i"}, ".zshrc",
		"autoload -Uz compinit; compinit -u -D; source <(culvert completion zsh); PS1='ready> '\n"},
	"fish": {[]string{"-i"}, "fish/config.fish",
		"culvert completion fish | source\nfunction fish_prompt; echo -n 'ready> '; end\n"},
}

// TestCompletionInShells types command lines with tabs in interactive shells, each on a terminal.
func TestCompletionInShells(t *testing.T) {
	for name, setup := range shellSetups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(name); err != nil {
				t.Fatalf("%v: `make test-deps` installs it", err)
			}
			dir := t.TempDir()
			rc := filepath.Join(dir, setup.file)
			if err := os.MkdirAll(filepath.Dir(rc), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(rc, []byte(setup.text), 0o600); err != nil {
				t.Fatal(err)
			}
			controller, terminal := openTerminal(t)
			screen, copied := recordTerminal(controller)
			env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir,
				"XDG_DATA_HOME="+dir, "ZDOTDIR="+dir,
				"TERM=vt100", "HISTFILE=", "GORACE=atexit_sleep_ms=0")
			p, err := startShell(dir, env, append([]string{name}, setup.args...), terminal)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.kill)
			terminal.Close()
			prompts := func(n int) {
				t.Helper()
				shows := func(text string) bool { return strings.Count(text, "ready> ") >= n }
				if text := screen.await(shows, p.ended); !shows(text) {
					t.Fatalf("no prompt; the terminal shows %q", text)
				}
			}
			prompts(1)
			// The command, a flag, and a file's name as the value of a flag.
			typeKeys(t, controller, "culvert keyg\t--ou\tmade.json > key; echo finish''ed\r")
			awaitFile(t, screen, p, filepath.Join(dir, "made.json"), "finished")
			typeKeys(t, controller, "culvert run --key ma\t--log-l\tdis\tws://127.0.0.1:1/ "+
				"-- cul\tkeyg\t 2> err; echo stop''ped\r")
			awaitFile(t, screen, p, filepath.Join(dir, "err"), "stopped")
			typeKeys(t, controller, "exit\r")
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
			<-copied
			text, err := os.ReadFile(filepath.Join(dir, "err"))
			const want = "culvert: the remote can't be reached: ws://127.0.0.1:1/: "
			if err != nil || !strings.HasPrefix(string(text), want) {
				t.Errorf("the second line was not completed: it prints %q, %v; the terminal shows %q",
					text, err, screen)
			}
		})
	}
}

// startShell starts a shell whose three standard files are the terminal.
func startShell(dir string, env, args []string, terminal *os.File) (*process, error) {
	p := &process{stdout: newRecord(), stderr: newRecord(), ended: make(chan struct{})}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = terminal, terminal, terminal
	p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

func typeKeys(t *testing.T, controller *os.File, keys string) {
	t.Helper()
	if _, err := controller.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// awaitFile waits until the terminal shows last, which a command prints at its end, and requires
// that the file exists then.
func awaitFile(t *testing.T, screen *record, p *process, path, last string) {
	t.Helper()
	ended := func(text string) bool { return strings.Contains(text, last) }
	text := screen.await(ended, p.ended)
	if _, err := os.Stat(path); err != nil || !ended(text) {
		t.Fatalf("%v; the terminal shows %q", err, text)
	}
}
