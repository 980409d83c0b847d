//go:build linux

package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// namespaceFolder is where ip keeps the namespaces that it creates.
	namespaceFolder = "/run/netns"

	// namespacePrefix begins the names of the namespaces. The ID of the process that created them
	// follows.
	namespacePrefix = "linkem-"

	// deviceName is the name of each host's TUN device.
	deviceName = "link0"

	// prefixBits is the length of the network's prefix.
	prefixBits = 30
)

// links counts the links of this process, for their names.
var links atomic.Int64

// addresses are those of the two hosts, from a network for tests (RFC 2544). They are the same for
// every link, whose hosts reach only each other.
var addresses = [2]netip.Addr{
	netip.AddrFrom4([4]byte{198, 18, 0, 1}), netip.AddrFrom4([4]byte{198, 18, 0, 2}),
}

// Host is one end of a link.
type Host struct {
	Namespace string     // its network namespace, by the name that ip knows
	Addr      netip.Addr // as the other host reaches it

	device *os.File
}

// newHost creates a namespace with a TUN device. On failure it leaves nothing.
func newHost(name string, addr netip.Addr, c Config) (_ *Host, err error) {
	if err := ip("netns", "add", name); err != nil {
		return nil, err
	}
	h := &Host{Namespace: name, Addr: addr}
	defer func() {
		if err != nil {
			h.remove()
		}
	}()
	err = within(name, func() (err error) {
		h.device, err = openTUN()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("TUN device in %s: %w", name, err)
	}
	for _, args := range []string{
		"link set lo up",
		// Otherwise the host sends packets of its own accord.
		"link set " + deviceName + " addrgenmode none",
		fmt.Sprintf("link set %s mtu %d txqueuelen %d", deviceName, c.MTU, deviceQueue),
		fmt.Sprintf("addr add %s/%d dev %s", addr, prefixBits, deviceName),
		"link set " + deviceName + " up",
	} {
		if err := ip(append([]string{"-n", name}, strings.Fields(args)...)...); err != nil {
			return nil, err
		}
	}
	if c.Control != "" {
		network := netip.PrefixFrom(addr, prefixBits).Masked().String()
		err := ip("-n", name, "route", "change", network, "dev", deviceName, "congctl", c.Control)
		if err != nil {
			return nil, fmt.Errorf("congestion control %s: %w", c.Control, err)
		}
	}
	return h, nil
}

// remove closes the device, which ends what reads from it, and removes the namespace.
func (h *Host) remove() error {
	if h.device != nil {
		h.device.Close()
	}
	return ip("netns", "del", h.Namespace)
}

// within calls f on a thread of its own that is in a namespace. Files and sockets that f opens stay
// in the namespace.
func within(namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, of the wrong namespace then, ends with the goroutine.
		runtime.LockOSThread()
		fd, err := unix.Open(filepath.Join(namespaceFolder, namespace), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// openTUN creates a TUN device in the thread's namespace. It lasts as long as the file. Each read
// from the file and each write to it is one IP packet.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(deviceName)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), deviceName), nil
}

// ip runs the ip program.
func ip(args ...string) error {
	path, err := exec.LookPath("ip")
	if err != nil {
		path = "/sbin/ip" // not in an ordinary user's PATH
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	if output, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

// removeAbandoned removes the namespaces of processes that were killed before they could.
func removeAbandoned() {
	namespaces, err := filepath.Glob(filepath.Join(namespaceFolder, namespacePrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range namespaces {
		name := filepath.Base(path)
		owner, _, _ := strings.Cut(strings.TrimPrefix(name, namespacePrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			ip("netns", "del", name) // another process may do the same now
		}
	}
}
