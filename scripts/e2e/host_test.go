//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"culvert/internal/testnet"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// hostPrefix begins the names of the namespaces; the ID of the process that made them follows.
const hostPrefix = "culvert-e2e-"

// noRoute is an address to which a host has no route, noHost one whose router reports it
// unreachable. Both are reserved for documentation (RFC 5737), so they are never in use.
const (
	noRoute = "203.0.113.1"
	noHost  = "198.51.100.1"
)

// hosts counts the hosts of this process, for their names and addresses.
var hosts atomic.Int64

// host is a network namespace, joined to the machine by a veth pair: another machine as far as the
// network is concerned. It has its own loopback, /etc/hosts and DNS server, which resolves no name.
type host struct {
	name     string
	addr     netip.Addr // as the machine reaches it
	nearAddr netip.Addr // the machine, as the host reaches it
}

// newHost makes a host with the entries of hostsFile in its /etc/hosts, and removes it when the
// test ends.
func newHost(t *testing.T, hostsFile string) *host {
	t.Helper()
	needRoot(t, "it makes a network namespace")
	ip := needProgram(t, "ip")
	removeAbandonedHosts(ip)
	n := hosts.Add(1)
	h := &host{name: fmt.Sprintf("%s%d-%d", hostPrefix, os.Getpid(), n)}
	near, far := fmt.Sprintf("cv%dn%da", os.Getpid(), n), fmt.Sprintf("cv%dn%db", os.Getpid(), n)
	// 198.18.0.0/15 is for networks under test (RFC 2544). Each veth pair has a /30 of it, and each
	// process 256 of those, more than all tests have hosts, so that those of parallel tests don't
	// overlap.
	offset := (os.Getpid()%128)*1024 + int(n%256)*4
	h.nearAddr = netip.AddrFrom4([4]byte{198, byte(18 + offset>>16), byte(offset >> 8),
		byte(offset) + 1})
	h.addr = h.nearAddr.Next()

	etc := filepath.Join("/etc/netns", h.name)
	t.Cleanup(func() {
		exec.Command(ip, "link", "del", near).Run() // the namespace removes it too, but later
		if output, err := exec.Command(ip, "netns", "del", h.name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del: %v: %s", err, output)
		}
		os.RemoveAll(etc)
		os.Remove(filepath.Dir(etc)) // if empty
	})
	must(t, patience, exec.Command(ip, "netns", "add", h.name))
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	// ip netns exec mounts these over those in /etc.
	for name, text := range map[string]string{
		"hosts":         "127.0.0.1 localhost\n" + hostsFile,
		"resolv.conf":   "nameserver 127.0.0.53\noptions timeout:5\n",
		"nsswitch.conf": "hosts: files dns\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"link add " + near + " type veth peer name " + far + " netns " + h.name,
		"addr add " + h.nearAddr.String() + "/30 dev " + near,
		"link set " + near + " up",
		// Otherwise an IPv6 address is configured some time later, and a browser that notices the
		// network change aborts its requests.
		"-n " + h.name + " link set " + far + " addrgenmode none",
		"-n " + h.name + " addr add " + h.addr.String() + "/30 dev " + far,
		"-n " + h.name + " link set " + far + " up",
		"-n " + h.name + " link set lo up",
		"-n " + h.name + " route add unreachable " + noHost + "/32",
	} {
		must(t, patience, exec.Command(ip, strings.Fields(args)...))
	}
	h.serveNoNames(t)
	return h
}

// removeAbandonedHosts removes the namespaces of test processes that were killed before they could.
func removeAbandonedHosts(ip string) {
	namespaces, err := filepath.Glob("/run/netns/" + hostPrefix + "*")
	if err != nil {
		return
	}
	for _, path := range namespaces {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), hostPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		exec.Command(ip, "netns", "del", filepath.Base(path)).Run()
		os.RemoveAll(filepath.Join("/etc/netns", filepath.Base(path)))
	}
}

// command makes a command run on the host. The wrapper execs it, so signals reach it.
func (h *host) command(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	args := append([]string{"netns", "exec", h.name}, cmd.Args...)
	return command(cmd.Env, cmd.Dir, needProgram(t, "ip"), args...)
}

// listen opens a listener on the host for the test's own process, until the test ends.
func (h *host) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := inNamespace(h.name, func() (net.Listener, error) { return net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dial connects to an address as a program on the host does.
func (h *host) dial(address string) (net.Conn, error) {
	return inNamespace(h.name,
		func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) })
}

// silentPort returns an address on the host that doesn't answer.
func (h *host) silentPort(t *testing.T) (address string) {
	t.Helper()
	silent, err := inNamespace(h.name,
		func() (netip.AddrPort, error) { return testnet.SilentPort(t), nil })
	if err != nil {
		t.Fatal(err)
	}
	return silent.String()
}

// inNamespace calls f on a thread in the namespace. A socket stays in the namespace that it was
// created in.
func inNamespace[T any](name string, f func() (T, error)) (made T, err error) {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return made, err
	}
	defer own.Close()
	other, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		runtime.UnlockOSThread()
		return made, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return made, err
	}
	made, err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return made, back // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return made, err
}

// brokenName is a name that a host's DNS server fails to look up.
const brokenName = "broken.culvert.test"

// serveNoNames answers every question to the host's DNS server with "no such name", or about
// brokenName with "server failure" (RFC 1035, section 4.1.1).
func (h *host) serveNoNames(t *testing.T) {
	t.Helper()
	h.serveDNS(t, func(answer *dnsmessage.Message) {
		answer.RCode = dnsmessage.RCodeNameError
		if len(answer.Questions) > 0 && answer.Questions[0].Name.String() == brokenName+"." {
			answer.RCode = dnsmessage.RCodeServerFailure
		}
	})
}

// serveDNS serves the host's DNS server until the test ends. The answer to a query is empty until
// complete has completed it.
func (h *host) serveDNS(t *testing.T, complete func(answer *dnsmessage.Message)) {
	t.Helper()
	conn, err := inNamespace(h.name,
		func() (net.PacketConn, error) { return net.ListenPacket("udp", "127.0.0.53:53") })
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		query := make([]byte, 1232)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return // closed
			}
			var m dnsmessage.Message
			if m.Unpack(query[:n]) != nil {
				continue
			}
			answer := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true},
				Questions: m.Questions,
			}
			complete(&answer)
			if packed, err := answer.Pack(); err == nil {
				conn.WriteTo(packed, from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

// startFarTunnel starts a remote on a host, and a local that reaches it over the veth pair. The
// flags are the local's.
func startFarTunnel(t *testing.T, h *host, localFlags ...string) *tunnel {
	t.Helper()
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	args := remoteArgs(tun.server, "--listen", h.addr.String()+":0", "--authorized-keys",
		tun.authorized)
	tun.remote = startNode(t, "remote", h.command(t, culvert(t, args...)))
	tun.local = startNode(t, "local",
		culvert(t, localArgs(tun.client, tun.server, tun.remote.url(), localFlags...)...))
	return tun
}
