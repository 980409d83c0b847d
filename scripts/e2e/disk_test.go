//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// onDisk runs a command in a mount namespace of its own, in which DISK is a small disk with the
// files of SEED, and full or read-only. When the command has ended, LEFT has what is on that disk.
const onDisk = `
set -e
mount -t tmpfs -o size=64k tmpfs "$DISK"
cp -a "$SEED/." "$DISK"
case $FAULT in
full) head -c 1M /dev/zero 2>/dev/null >"$DISK/filler" || true ;;
read-only) mount -o remount,ro "$DISK" ;;
esac
if [ -z "$LEFT" ]; then exec "$@"; fi
"$@" || status=$?
rm -f "$DISK/filler" 2>/dev/null || true
cp -a "$DISK/." "$LEFT"
exit "${status:-0}"
`

// diskFaults are what a disk does, and how the system puts it.
var diskFaults = map[string]string{
	"full": "no space left on device", "read-only": "read-only file system",
}

// badDisk is a disk for onDisk.
type badDisk struct {
	fault            string
	path, seed, left string
}

func newBadDisk(t *testing.T, fault string) *badDisk {
	needRoot(t, "it mounts a disk in a mount namespace of its own")
	return &badDisk{fault: fault, path: t.TempDir(), seed: t.TempDir(), left: t.TempDir()}
}

// command returns the command that runs another on the disk: to its end, or in place of the shell.
func (d *badDisk) command(t *testing.T, toEnd bool, cmd *exec.Cmd) *exec.Cmd {
	left := ""
	if toEnd {
		left = d.left
	}
	args := append([]string{"--mount", "sh", "-c", onDisk, "sh"}, cmd.Args...)
	env := append(cmd.Env, "DISK="+d.path, "SEED="+d.seed, "LEFT="+left, "FAULT="+d.fault)
	return command(env, cmd.Dir, needProgram(t, "unshare"), args...)
}

// files returns the content of all files in a folder, by name.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range entries {
		b, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Error(err)
		}
		found[entry.Name()] = string(b)
	}
	return found
}

// A new file that the disk has no room for, or that can't be written at all, is not left in part,
// and the error names the file and the cause.
func TestNewFilesOnABadDisk(t *testing.T) {
	t.Parallel()
	authority := filepath.Join(t.TempDir(), "ca.json")
	must(t, patience, culvert(t, "cert", "ca", "--name", "a", "--out", authority,
		"--cert-out", authority+".cert"))
	id := newIdentity(t)
	for fault, cause := range diskFaults {
		for name, args := range map[string][]string{
			"keygen": {"keygen", "-o", "FILE"},
			"a CA":   {"cert", "ca", "--name", "b", "--out", "FILE", "--cert-out", "FILE.cert"},
			"a certificate": {"cert", "issue", "--ca-key", authority, "--public-key=" + id.key,
				"--name", "c", "--out", "FILE"},
		} {
			t.Run(fault+", "+name, func(t *testing.T) {
				disk := newBadDisk(t, fault)
				file := filepath.Join(disk.path, "new")
				cmd := culvert(t)
				for _, arg := range args {
					cmd.Args = append(cmd.Args, strings.Replace(arg, "FILE", file, 1))
				}
				r := run(t, patience, disk.command(t, true, cmd))
				if r.status != 1 || !strings.Contains(r.stderr, cause) ||
					!strings.Contains(r.stderr, file) {
					t.Errorf("status %d, %q; want %s and %q", r.status, r.stderr, file, cause)
				}
				if left := files(t, disk.left); len(left) > 0 {
					t.Errorf("left on the disk: %q", left)
				}
			})
		}
	}
}

// A CA for which there is room in only one of its two files leaves neither.
func TestHalfACAOnABadDisk(t *testing.T) {
	t.Parallel()
	elsewhere := t.TempDir()
	for fault, cause := range diskFaults {
		for name, at := range map[string][2]string{
			"the certificate": {elsewhere, "DISK"}, "the key": {"DISK", elsewhere},
		} {
			t.Run(fault+", "+name, func(t *testing.T) {
				disk := newBadDisk(t, fault)
				var paths []string
				for i, folder := range at {
					folder = strings.Replace(folder, "DISK", disk.path, 1)
					paths = append(paths, filepath.Join(folder, []string{"ca", "cert"}[i]))
				}
				r := run(t, patience, disk.command(t, true, culvert(t, "cert", "ca", "--name", "a",
					"--out", paths[0], "--cert-out", paths[1])))
				if r.status != 1 || !strings.Contains(r.stderr, cause) ||
					!strings.Contains(r.stderr, disk.path) {
					t.Errorf("status %d, %q; want %s and %q", r.status, r.stderr, disk.path, cause)
				}
				for _, folder := range []string{disk.left, elsewhere} {
					if left := files(t, folder); len(left) > 0 {
						t.Errorf("left: %q", left)
					}
				}
			})
		}
	}
}

// A remote that can't be remembered, or only in part, is not trusted, and the file of known remotes
// is as it was.
func TestKnownRemotesOnABadDisk(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	line := "ws://other.test:80/ " + tun.server.key + "\n"
	for fault, cause := range diskFaults {
		t.Run(fault, func(t *testing.T) {
			disk := newBadDisk(t, fault)
			// The first bytes of another line still fit.
			before := strings.Repeat("#", 4096-len(line)-11) + "\n" + line
			rewrite(t, filepath.Join(disk.seed, "known"), before)
			known := filepath.Join(disk.path, "known")
			r := run(t, patience, disk.command(t, true, culvert(t, "check", "--accept-new",
				"--known-remotes", known, "--key", tun.client.file, tun.remote.url())))
			if r.status == 0 || !strings.Contains(r.stderr, cause) ||
				!strings.Contains(r.stderr, known) {
				t.Errorf("status %d, %q; want %s and %q", r.status, r.stderr, known, cause)
			}
			if left := files(t, disk.left); len(left) != 1 || left["known"] != before {
				t.Errorf("left on the disk: %q", left)
			}
		})
	}
}

// A remote that can't save the use of quotas says so and serves on, and leaves the last file whole.
func TestQuotasOnABadDisk(t *testing.T) {
	t.Parallel()
	for fault, cause := range diskFaults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			disk := newBadDisk(t, fault)
			tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
			tun.authorized = writeFile(t, "authorized_keys", tun.client.key+" quota=1G\n")
			name := "quota-" + tun.server.key + ".json"
			before := fmt.Sprintf(`{"day":%q,"used":{%q:1000}}`,
				time.Now().UTC().Format(time.DateOnly), tun.client.key)
			rewrite(t, filepath.Join(disk.seed, name), before)
			tun.remote = startNode(t, "remote", disk.command(t, false,
				culvert(t, remoteArgs(tun.server, "--authorized-keys", tun.authorized,
					"--state-dir", disk.path)...)))
			tun.local = startNode(t, "local", culvert(t,
				localArgs(tun.client, tun.server, tun.remote.url(), "-L",
					"0:"+testnet.EchoServer(t))...))
			echo := func() {
				t.Helper()
				conn := testnet.Dial(t, tun.local.forwards[0], patience)
				if err := testnet.CheckEcho(conn, "some bytes"); err != nil {
					t.Error(err)
				}
			}
			echo()
			got := tun.remote.stderr.waitLine(t, tun.remote.process, "isn't saved", patience)
			if !strings.Contains(got, name) || !strings.Contains(got, cause) {
				t.Errorf("logged %q; want %s and %q", got, name, cause)
			}
			echo()
			root := fmt.Sprintf("/proc/%d/root", tun.remote.cmd.Process.Pid)
			left := files(t, filepath.Join(root, disk.path))
			delete(left, "filler")
			if len(left) != 1 || left[name] != before {
				t.Errorf("left on the disk: %q", left)
			}
		})
	}
}
