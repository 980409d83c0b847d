package peer

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Host is where a program runs.
type Host struct {
	Namespace string // network namespace; empty: the machine's own
	Address   string // as the other host reaches it
}

// Command returns a command that runs on the host. Its process becomes the program itself, so
// signals reach the program.
func (h Host) Command(program string, args ...string) *exec.Cmd {
	if h.Namespace == "" {
		return exec.Command(program, args...)
	}
	return exec.Command(Find("ip"),
		append([]string{"netns", "exec", h.Namespace, program}, args...)...)
}

// Find returns the path of a program, even if it is not in an ordinary user's PATH, or its name if
// it is not installed.
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

// FreePort returns a loopback port that nobody listens on at the moment. It is free in the network
// namespaces of a link as well, where nothing else listens.
func FreePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// FreePorts returns the first of count consecutive loopback ports that nobody listens on at the
// moment. They are below those that the system chooses for outgoing connections, of which a load
// may take many.
func FreePorts(count int) (first int, err error) {
	for range portAttempts {
		first = leastPort + rand.IntN(mostPort-leastPort-count)
		if err = tryListen(first, count); err == nil {
			return first, nil
		}
	}
	return 0, fmt.Errorf("no %d consecutive free ports: %w", count, err)
}

// tryListen listens on consecutive loopback ports for a moment.
func tryListen(first, count int) error {
	for port := first; port < first+count; port++ {
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return err
		}
		defer ln.Close()
	}
	return nil
}

// Environment returns the environment of the programs, without any of the user's settings.
func Environment(home string) []string {
	return []string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_RUNTIME_DIR=" + home,
		"PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8", "TMPDIR=" + os.TempDir()}
}
