//go:build linux

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// service is the user and group ID that a culvert service runs as.
const service = 65534

// serviceFolder returns a folder that a service can read, with the program in it.
func serviceFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "culvert-service-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	must(t, patience, command(cleanEnv(t), "", "cp", program, folder))
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}

// asService returns a command that runs the program of a service's folder in it, as the service.
func asService(t *testing.T, folder string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"--reuid", fmt.Sprint(service), "--regid", fmt.Sprint(service),
		"--clear-groups", "--", filepath.Join(folder, filepath.Base(program))}, args...)
	return command(append(cleanEnv(t), "HOME="+folder), folder, needProgram(t, "setpriv"), args...)
}

// A service reads a key that root owns and that its group may read, as OpenSSH does for files that
// aren't the caller's own. It reads no key that others may read, and none of its own that its group
// may read.
func TestKeyFileModes(t *testing.T) {
	t.Parallel()
	needRoot(t, "it runs a remote as another user")
	folder := serviceFolder(t)
	secret := newIdentity(t)
	key := filepath.Join(folder, "identity.json")
	must(t, patience, command(cleanEnv(t), "", "cp", secret.file, key))
	tlsKey := filepath.Join(folder, "tls.key")
	must(t, patience, command(cleanEnv(t), folder, "openssl", "req", "-x509", "-newkey", "ec",
		"-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tlsKey, "-out", "tls.pem",
		"-days", "1", "-subj", "/CN=localhost"))
	for _, test := range []struct {
		mode     fs.FileMode
		owner    int
		accepted bool
	}{
		{0o600, service, true}, {0o400, service, true},
		{0o640, service, false}, {0o440, service, false},
		{0o640, 0, true}, {0o440, 0, true},
		{0o644, 0, false}, {0o660, 0, false}, {0o444, 0, false},
	} {
		t.Run(fmt.Sprintf("%04o of %d", test.mode, test.owner), func(t *testing.T) {
			for _, file := range []string{key, tlsKey} {
				if err := os.Chown(file, test.owner, service); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			cmd := asService(t, folder, "remote", "--key", key, "--tls-key", tlsKey, "--tls-cert", "tls.pem",
				"--allow-anyone", "--listen", "127.0.0.1:0", "--print-ready")
			if test.accepted {
				n := startNode(t, "remote", cmd)
				n.signal(syscall.SIGTERM)
				n.wait(patience)
				return
			}
			r := run(t, patience, cmd)
			if r.status != exitFailed || !strings.Contains(r.stderr, "accessible by others than its owner") {
				t.Errorf("status %d, %s", r.status, r.stderr)
			}
		})
	}
}
