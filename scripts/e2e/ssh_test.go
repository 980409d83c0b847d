//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// sshSize is the size in bytes of what is copied through ssh, and sshTime bounds one ssh command.
const (
	sshSize = 32 << 20
	sshTime = time.Minute
)

// sshServer is an sshd of the test's own, and the files that a client needs.
type sshServer struct {
	port       string
	clientKey  string // file
	knownHosts string // file
	user       string
}

// startSSHD starts Debian's sshd on a free port of loopback, with keys and settings of its own.
func startSSHD(t *testing.T) *sshServer {
	t.Helper()
	needRoot(t, "sshd starts sessions")
	sshd, keygen := needProgram(t, "sshd"), needProgram(t, "ssh-keygen")
	// sshd confines its unprivileged process to this directory.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	hostKey, clientKey := filepath.Join(folder, "host"), filepath.Join(folder, "client")
	for _, file := range []string{hostKey, clientKey} {
		must(t, patience, exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-C", "e2e", "-f", file))
	}
	public, err := os.ReadFile(hostKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshServer{clientKey: clientKey, user: me.Username}
	s.knownHosts = writeFile(t, "known_hosts", "culvert-e2e "+string(public))
	// sshd can't pick a port, and another program may take the free one before sshd binds it.
	for range 5 {
		s.port = testnet.FreePort(t)
		config := writeFile(t, "sshd_config", fmt.Sprintf(`
ListenAddress 127.0.0.1:%s
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
LogLevel VERBOSE
`, s.port, hostKey, clientKey))
		p := start(t, "sshd", exec.Command(sshd, "-D", "-e", "-f", config))
		if s.listens(t, p) {
			return s
		}
	}
	t.Fatal("no free port for sshd")
	return nil
}

// listens waits until sshd accepts connections. It returns false if the port was taken.
func (s *sshServer) listens(t *testing.T, p *process) bool {
	t.Helper()
	testnet.Poll(t, patience, "sshd listens or exits", func() bool {
		return strings.Contains(p.stderr.String(), "Server listening on") || !p.running()
	})
	if p.running() {
		return true
	}
	if !strings.Contains(p.stderr.String(), "Address already in use") {
		t.Fatalf("sshd exited with status %d", p.status())
	}
	return false
}

// sshThrough returns a command that runs ssh over culvert's standard input and output.
func (s *sshServer) sshThrough(t *testing.T, tun *tunnel, remoteCommand string) *exec.Cmd {
	t.Helper()
	proxy := fmt.Sprintf("%s local -W %%h:%%p --key %s --remote-key %s %s",
		program, tun.client.file, tun.server.key, tun.remote.url())
	return command(cleanEnv(t), t.TempDir(), needProgram(t, "ssh"), "-F", "none", "-o",
		"ProxyCommand="+proxy,
		"-o", "UserKnownHostsFile="+s.knownHosts,
		"-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=culvert-e2e",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
		"-o", "IdentityAgent=none",
		"-i", s.clientKey, "-p", s.port, s.user+"@127.0.0.1", remoteCommand)
}

func TestSSHThroughStdio(t *testing.T) {
	t.Parallel()
	server, tun := startSSHD(t), startRemoteOnly(t)
	file := filepath.Join(t.TempDir(), "copied")

	t.Run("command", func(t *testing.T) {
		r := run(t, sshTime, server.sshThrough(t, tun, "echo out; echo err >&2"))
		if r.status != 0 || r.stdout != "out\n" || r.stderr != "err\n" {
			t.Errorf("status %d, %q, %q", r.status, r.stdout, r.stderr)
		}
	})
	t.Run("exit status", func(t *testing.T) {
		if r := run(t, sshTime, server.sshThrough(t, tun, "exit 42")); r.status != 42 {
			t.Errorf("status %d, want 42; %s", r.status, r.stderr)
		}
	})
	want := sum(t, randomBytes(sshSize))
	t.Run("copy there", func(t *testing.T) {
		cmd := server.sshThrough(t, tun, "cat > '"+file+"'")
		cmd.Stdin = randomBytes(sshSize)
		must(t, sshTime, cmd)
		copied, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer copied.Close()
		if got := sum(t, copied); got != want {
			t.Errorf("the server has %s, want %s", got, want)
		}
	})
	t.Run("copy back", func(t *testing.T) {
		if got := sum(t,
			strings.NewReader(must(t, sshTime, server.sshThrough(t, tun, "cat '"+file+"'")))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// When the server disappears, ssh notices although its own standard input stays open.
func TestSSHEndsWithServer(t *testing.T) {
	t.Parallel()
	server, tun := startSSHD(t), startRemoteOnly(t)
	stdin, keepOpen, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keepOpen.Close()
	defer stdin.Close()
	// The command's parent is the sshd of its connection. Killed, it closes without a message; cat
	// ends with it.
	cmd := server.sshThrough(t, tun, "echo $PPID; exec cat")
	cmd.Stdin = stdin
	ssh := start(t, "ssh", cmd)
	sshd, err := strconv.Atoi(ssh.stdout.waitLine(t, ssh, "", sshTime))
	if err != nil || sshd <= 1 {
		t.Fatalf("not the process ID of sshd: %d, %v", sshd, err)
	}
	if err := syscall.Kill(sshd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	const lostConnection = 255 // ssh(1): an error of ssh's own
	if got := ssh.wait(patience); got != lostConnection {
		t.Errorf("ssh: status %d, want %d", got, lostConnection)
	}
	testnet.Poll(t, patience, "the local that ssh had started is gone", ssh.groupGone)
}

// -W exits with a line that states why the target can't be reached.
func TestStdioRefused(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	target := "127.0.0.1:" + testnet.FreePort(t)
	r := run(t, patience, culvert(t, "local", "-W", target,
		"--key", tun.client.file, "--remote-key", tun.server.key, tun.remote.url()))
	if want := "culvert: " + target + ": connection refused\n"; r.status != 1 || r.stdout != "" ||
		r.stderr != want {
		t.Errorf("status %d, %q, %q, want %q", r.status, r.stdout, r.stderr, want)
	}
}

// startRemoteOnly starts a tunnel's remote; tests start the locals.
func startRemoteOnly(t *testing.T) *tunnel {
	t.Helper()
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = tun.startRemote(t, "127.0.0.1:0", tun.server)
	return tun
}
