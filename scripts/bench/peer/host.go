package peer

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Host is where a program runs.
type Host struct {
	Namespace string // network namespace; empty: the machine's own
	Address   string // as the other host reaches it
}

// Command makes a command that runs on the host. It becomes the program itself, so signals reach
// it.
func (h Host) Command(program string, args ...string) *exec.Cmd {
	if h.Namespace == "" {
		return exec.Command(program, args...)
	}
	return exec.Command(Find("ip"),
		append([]string{"netns", "exec", h.Namespace, program}, args...)...)
}

// Find is the path of a program, even of one that is off an ordinary user's PATH, or its name when
// it isn't there.
func Find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path
		}
	}
	return name
}

// FreePort is a port of loopback that nobody listens on at the moment; in a namespace of a link's
// nobody does anyway.
func FreePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// environment is that of the programs, in which nothing of the user's settings shows.
func environment(home string) []string {
	return []string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8", "TMPDIR=" + os.TempDir()}
}
