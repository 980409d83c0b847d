package cli

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// trapping is a command that prints the signals it gets, and exits with status 9 on SIGTERM.
const trapping = `
trap 'echo INT' INT
trap 'echo HUP' HUP
trap 'echo TERM; exit 9' TERM
echo up
while :; do sleep 0.05; done`

// serveAnyone starts a remote that admits every client.
func serveAnyone(t *testing.T, dir string, env []string) readyLine {
	t.Helper()
	return startReady(t, dir, env,
		"remote", "--listen", "127.0.0.1:0", "--allow-anyone", "--print-ready")
}

// startTrapping runs that command in culvert run until it is up.
func startTrapping(t *testing.T, terminal *os.File) *process {
	t.Helper()
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	remote := serveAnyone(t, dir, env)
	args := []string{"culvert", "run", "--remote-key", remote.PublicKey,
		"--key", dir + "/client.json", "ws://" + remote.Listen[0] + "/",
		"--", "sh", "-c", trapping}
	createKey(t, dir, env)
	p, err := startProcess(dir, env, args, terminal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	awaitOutput(t, p, "up\n")
	return p
}

// createKey creates client.json, and the file key with its public key.
func createKey(t *testing.T, dir string, env []string) {
	t.Helper()
	sh := &shell{dir: dir, env: env}
	output, err := sh.run("culvert keygen -o client.json >key 2>/dev/null")
	if err != nil || output != "" {
		t.Fatalf("%v\n%s", err, output)
	}
}

// awaitOutput waits until a process has written text to standard output, and nothing else.
func awaitOutput(t *testing.T, p *process, text string) {
	t.Helper()
	enough := func(got string) bool { return len(got) >= len(text) }
	if got := p.stdout.await(enough, p.ended); got != text {
		t.Fatalf("standard output %q, want %q; standard error\n%s", got, text, p.stderr)
	}
}

func (p *process) send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func checkStatus(t *testing.T, p *process, want int) {
	t.Helper()
	if status, err := p.wait(); status != want || err != nil {
		t.Errorf("status %d, %v, want %d; standard error\n%s", status, err, want, p.stderr)
	}
}

// TestRunPassesSignalsOn runs a command without a terminal.
func TestRunPassesSignalsOn(t *testing.T) {
	t.Parallel()
	p := startTrapping(t, nil)
	p.send(t, syscall.SIGINT)
	awaitOutput(t, p, "up\nINT\n")
	p.send(t, syscall.SIGUSR1) // for the tunnel
	p.send(t, syscall.SIGHUP)
	awaitOutput(t, p, "up\nINT\nHUP\n")
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, 9)
	if got := p.stdout.String(); got != "up\nINT\nHUP\nTERM\n" {
		t.Errorf("the command wrote %q", got)
	}
	p = startTrapping(t, nil)
	p.send(t, syscall.SIGQUIT) // the command does not catch it
	checkStatus(t, p, exitSignal+int(syscall.SIGQUIT))
}

// TestRunOnTerminal types Ctrl-C, which the terminal sends to both: culvert keeps running and sends
// no second signal.
func TestRunOnTerminal(t *testing.T) {
	t.Parallel()
	controller, terminal := openTerminal(t)
	_, copied := recordTerminal(controller)
	p := startTrapping(t, terminal)
	terminal.Close()
	if _, err := controller.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	awaitOutput(t, p, "up\nINT\n")
	p.send(t, syscall.SIGINT) // as from the terminal, which has not sent it
	p.send(t, syscall.SIGHUP)
	awaitOutput(t, p, "up\nINT\nHUP\n")
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, 9)
	<-copied
}

// TestRunInterruptedBefore interrupts culvert run while it asks, before the command is started.
func TestRunInterruptedBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	remote := serveAnyone(t, dir, env)
	controller, terminal := openTerminal(t)
	screen, copied := recordTerminal(controller)
	args := []string{"culvert", "run", "ws://" + remote.Listen[0] + "/", "--", "echo", "started"}
	p, err := startProcess(dir, env, args, terminal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	terminal.Close()
	asks := func(text string) bool { return strings.Contains(text, "(yes/no/KEY)? ") }
	if text := screen.await(asks, p.ended); !asks(text) {
		t.Fatalf("it does not ask; the terminal shows %q, standard error\n%s", text, p.stderr)
	}
	p.send(t, syscall.SIGINT)
	checkStatus(t, p, exitSignal+int(syscall.SIGINT))
	if got := p.stdout.String(); got != "" {
		t.Errorf("standard output %q", got)
	}
	const want = "culvert: the command was not started: interrupt came first\n"
	if !strings.HasSuffix(p.stderr.String(), want) {
		t.Errorf("standard error %q", p.stderr)
	}
	<-copied
}

// TestRunOutlivesTunnel ends the session for good, by no longer admitting the client: the command
// keeps running.
func TestRunOutlivesTunnel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	createKey(t, dir, env)
	sh := &shell{dir: dir, env: env}
	if output, err := sh.run("cp key authorized"); err != nil || output != "" {
		t.Fatalf("%v\n%s", err, output)
	}
	remote, err := startProcess(dir, env, []string{"culvert", "remote", "--listen", "127.0.0.1:0",
		"--authorized-keys", "authorized", "--print-ready"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.kill)
	ready, err := remote.awaitReady()
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(dir, env, []string{"culvert", "run", "--remote-key", ready.PublicKey,
		"--key", "client.json", "ws://" + ready.Listen[0] + "/", "--", "sh", "-c", trapping}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	awaitOutput(t, p, "up\n")
	if err := os.WriteFile(dir+"/authorized", []byte(ready.PublicKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	remote.send(t, syscall.SIGHUP)
	const logged = "the tunnel failed error=\"not admitted: the remote does not admit the key "
	gone := func(text string) bool { return strings.Contains(text, logged) }
	if text := p.stderr.await(gone, p.ended); !gone(text) {
		t.Fatalf("standard error\n%s", text)
	}
	p.send(t, syscall.SIGTERM)
	checkStatus(t, p, 9)
}
