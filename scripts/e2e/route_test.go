//go:build linux

package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

// place is the network namespace of the test's own sockets; the empty place is the test's own
// namespace.
type place string

func (p place) listen(t *testing.T) net.Listener {
	t.Helper()
	if p != "" {
		return (&host{name: string(p)}).listen(t, "127.0.0.1:0")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dial connects with a blocking connect(2). Package net's connect doesn't block, and loses received
// data when the connection is reset before the poller reports it.
func (p place) dial(address string) (net.Conn, error) {
	dial := func() (net.Conn, error) { return dialBlocking(address) }
	if p != "" {
		return inNamespace(string(p), dial)
	}
	return dial()
}

// dialFor connects within a time.
func (p place) dialFor(address string, limit time.Duration) (net.Conn, error) {
	dial := func() (net.Conn, error) { return net.DialTimeout("tcp", address, limit) }
	if p != "" {
		return inNamespace(string(p), dial)
	}
	return dial()
}

func dialBlocking(address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	for {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		file := os.NewFile(uintptr(fd), "")
		if err == nil {
			conn, err := net.FileConn(file)
			return conn, errors.Join(err, file.Close())
		}
		file.Close()
		if err != unix.ECONNRESET && err != unix.EINTR { // else retry: the reset came first
			return nil, err
		}
	}
}

// route connects clients to targets.
type route struct {
	name             string
	clients, targets place
	reverse          bool // the targets are at the local, the clients at the remote
	quietEnd         bool // turns a reset into an end of file
	http             bool // what is sent is the body of an HTTP request

	// lead prepares the route to these targets, if necessary.
	lead func(t *testing.T, targets []string)

	// connect connects a client to one of them.
	connect func(target string) (net.Conn, error)

	// connectEarly connects a client that does not wait until the target is reached, but sends data
	// ahead of that. It is nil for a direct route.
	connectEarly func(target string, data []byte) (net.Conn, error)
}

// pair opens a connection to a target and returns both ends once the target has received a byte
// from the client.
func (r *route) pair(t *testing.T, ln net.Listener) (client, target net.Conn) {
	t.Helper()
	client, err := r.connect(ln.Addr().String())
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	t.Cleanup(func() { client.Close() })
	client.SetDeadline(time.Now().Add(cutTime))
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	target, err = ln.Accept()
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	t.Cleanup(func() { target.Close() })
	target.SetDeadline(time.Now().Add(cutTime))
	if _, err := io.ReadFull(target, make([]byte, 1)); err != nil {
		t.Fatalf("%s: the target: %v", r.name, err)
	}
	return client, target
}

// portRoute returns a route with a port for each target. open opens the ports and returns their
// addresses.
func portRoute(name string, clients, targets place,
	open func(t *testing.T, targets []string) []string) *route {
	ports := make(map[string]string)
	return &route{
		name: name, clients: clients, targets: targets,
		lead: func(t *testing.T, targets []string) {
			for i, address := range open(t, targets) {
				ports[targets[i]] = address
			}
		},
		connect: func(target string) (net.Conn, error) { return clients.dial(ports[target]) },
		connectEarly: func(target string, data []byte) (net.Conn, error) {
			conn, err := clients.dial(ports[target])
			if err != nil {
				return nil, err
			}
			return conn, sendTo(conn, data)
		},
	}
}

// sendTo writes to a connection within the time of a test's case, and closes it on error.
func sendTo(conn net.Conn, data []byte) error {
	conn.SetDeadline(time.Now().Add(cutTime))
	_, err := conn.Write(data)
	if err != nil {
		conn.Close()
	}
	return err
}

// asking is how a client asks a proxy to connect it.
type asking struct {
	login   func(conn net.Conn) error // what comes ahead of the request; nil for nothing
	request func(target string) ([]byte, error)
	answer  func(conn net.Conn) error // reads the answer, and fails unless the target was reached
}

// ask logs in and sends the request, with what is to follow it.
func (a asking) ask(conn net.Conn, target string, data []byte) error {
	request, err := a.request(target)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(patience))
	if a.login != nil {
		if err := a.login(conn); err != nil {
			return err
		}
	}
	_, err = conn.Write(append(request, data...))
	return err
}

// proxyRoute returns a route through a proxy.
func proxyRoute(name string, clients, targets place, proxy string, how asking) *route {
	connect := func(target string, data []byte, wait bool) (net.Conn, error) {
		conn, err := clients.dial(proxy)
		if err != nil {
			return nil, err
		}
		if err = how.ask(conn, target, data); err == nil && wait {
			err = how.answer(conn)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	return &route{
		name: name, clients: clients, targets: targets,
		connect: func(target string) (net.Conn, error) { return connect(target, nil, true) },
		connectEarly: func(target string, data []byte) (net.Conn, error) {
			return connect(target, data, false)
		},
	}
}

// askSOCKS5 is for a SOCKS5 proxy that requires no password (RFC 1928).
var askSOCKS5 = asking{
	login: func(conn net.Conn) error {
		_, err := exchange(conn, []byte{5, 1, 0}, 2)
		return err
	},
	request: requestSOCKS5, answer: answerSOCKS5,
}

// askSOCKS5As is for one that requires the name and password of proxyUser (RFC 1929).
var askSOCKS5As = asking{
	login: func(conn net.Conn) error {
		user := fmt.Sprintf("\x01%c%s%c%s", len(proxyUser), proxyUser, len(proxyPassword),
			proxyPassword)
		for _, message := range [][]byte{{5, 1, 2}, []byte(user)} {
			if _, err := exchange(conn, message, 2); err != nil {
				return err
			}
		}
		return nil
	},
	request: requestSOCKS5, answer: answerSOCKS5,
}

func requestSOCKS5(target string) ([]byte, error) {
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	request := append([]byte{5, 1, 0, 1}, to.Addr().AsSlice()...)
	return append(request, byte(to.Port()>>8), byte(to.Port())), nil
}

func answerSOCKS5(conn net.Conn) error {
	answer := make([]byte, 10)
	_, err := io.ReadFull(conn, answer)
	if err == nil && answer[1] != replyOK {
		err = fmt.Errorf("SOCKS reply %d", answer[1])
	}
	return err
}

// exchange sends a message and reads n bytes.
func exchange(conn net.Conn, message []byte, n int) ([]byte, error) {
	answer := make([]byte, n)
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	_, err := io.ReadFull(conn, answer)
	return answer, err
}

// askCONNECT is for an HTTP proxy, with user's password unless user is nil.
func askCONNECT(user *url.Userinfo) asking {
	return asking{
		request: func(target string) ([]byte, error) {
			head := fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n", target)
			if user != nil {
				basic := base64.StdEncoding.EncodeToString([]byte(user.String()))
				head += "Proxy-Authorization: Basic " + basic + "\r\n"
			}
			return []byte(head + "\r\n"), nil
		},
		answer: func(conn net.Conn) error {
			head, err := readHead(conn)
			if err == nil && !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				err = fmt.Errorf("CONNECT: %q", head)
			}
			return err
		},
	}
}

// readHead reads the head of an HTTP message, and not a byte more.
func readHead(conn net.Conn) (head string, err error) {
	next := make([]byte, 1)
	for err == nil && !strings.HasSuffix(head, "\r\n\r\n") {
		if _, err = io.ReadFull(conn, next); err == nil {
			head += string(next)
		}
	}
	return head, err
}

// world is a remote, its locals, and the places of clients and targets.
type world struct {
	tunnel
	nearHost, farHost *host // nil for the machine itself
	near, far         place
	locals            []*node
	runs              []*process // of `culvert run`
}

// startWorld starts the remote at far, or on loopback if far is nil.
func startWorld(t *testing.T, near, far *host) *world {
	t.Helper()
	w := &world{nearHost: near, farHost: far}
	w.server, w.client = newIdentity(t), newIdentity(t)
	listen := "127.0.0.1:0"
	if far != nil {
		w.near, w.far, listen = place(near.name), place(far.name), far.addr.String()+":0"
	}
	w.authorized = writeFile(t, "authorized_keys", w.client.key+"\n")
	w.startRemote(t, listen)
	return w
}

// startRemote starts the remote, or its replacement.
func (w *world) startRemote(t *testing.T, listen string) {
	t.Helper()
	w.remote = w.start(t, w.farHost, "remote", remoteArgs(w.server, "--listen", listen,
		"--authorized-keys", w.authorized, "--reverse", "localhost"))
}

func (w *world) startLocal(t *testing.T, flags ...string) *node {
	t.Helper()
	args := localArgs(w.client, w.server, w.remote.url(), flags...)
	local := w.start(t, w.nearHost, "local", args)
	w.locals = append(w.locals, local)
	return local
}

func (w *world) start(t *testing.T, at *host, name string, args []string) *node {
	t.Helper()
	cmd := culvert(t, args...)
	if at != nil {
		cmd = at.command(t, cmd)
	}
	return startNode(t, name, cmd)
}

// routes returns the routes through locals with these flags and the remote, one for each kind of
// listener.
func (w *world) routes(t *testing.T, flags ...string) []*route {
	t.Helper()
	local := w.startLocal(t, append(flags, "-R", "127.0.0.1:0:socks")...)
	routes := []*route{
		portRoute("-L", w.near, w.far, func(t *testing.T, targets []string) []string {
			return w.startLocal(t, append(flags, ports("-L", targets)...)...).forwards
		}),
		portRoute("-R", w.far, w.near, func(t *testing.T, targets []string) []string {
			return w.startLocal(t, append(flags, ports("-R", targets)...)...).reverse
		}),
		proxyRoute("SOCKS", w.near, w.far, local.socks, askSOCKS5),
		proxyRoute("CONNECT", w.near, w.far, local.socks, askCONNECT(nil)),
		proxyRoute("-R socks", w.far, w.near, local.reverse[0], askSOCKS5),
		proxyRoute("-R socks, CONNECT", w.far, w.near, local.reverse[0], askCONNECT(nil)),
	}
	for _, r := range routes {
		r.reverse = strings.HasPrefix(r.name, "-R")
	}
	return routes
}

// ports returns flags that make a local forward a port to each of the targets.
func ports(flag string, targets []string) []string {
	var flags []string
	for _, target := range targets {
		flags = append(flags, flag, "127.0.0.1:0:"+target)
	}
	return flags
}

// runRoute returns the route through the proxy of `culvert run`.
func (w *world) runRoute(t *testing.T) *route {
	t.Helper()
	p := start(t, "run", culvert(t, "run", "--key", w.client.file, "--remote-key", w.server.key,
		w.remote.url(), "--", "sh", "-c", `echo "$HTTP_PROXY"; exec sleep 600`))
	w.runs = append(w.runs, p)
	proxy, err := url.Parse(p.stdout.waitLine(t, p, "http://", patience))
	if err != nil {
		t.Fatal(err)
	}
	return proxyRoute("run", w.near, w.far, proxy.Host, askCONNECT(proxy.User))
}

// sshRoutes returns the routes through ssh -L and ssh -D.
func sshRoutes(t *testing.T) []*route {
	t.Helper()
	server := startSSHD(t)
	open := func(t *testing.T, forwards ...string) {
		args := append([]string{"-F", "none", "-N", "-o", "UserKnownHostsFile=" + server.knownHosts,
			"-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=culvert-e2e",
			"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
			"-o", "IdentityAgent=none", "-i", server.clientKey, "-p", server.port}, forwards...)
		start(t, "ssh", command(cleanEnv(t), t.TempDir(), needProgram(t, "ssh"),
			append(args, server.user+"@127.0.0.1")...))
	}
	dynamic := "127.0.0.1:" + testnet.FreePort(t)
	open(t, "-D", dynamic)
	awaitListener(t, dynamic)
	routes := []*route{
		portRoute("ssh -L", "", "", func(t *testing.T, targets []string) (addresses []string) {
			var flags []string
			for _, target := range targets {
				address := "127.0.0.1:" + testnet.FreePort(t)
				addresses = append(addresses, address)
				flags = append(flags, "-L", address+":"+target)
			}
			open(t, flags...)
			testnet.Poll(t, patience, "ssh listens", func() bool { return listening(t, addresses) })
			return addresses
		}),
		proxyRoute("ssh -D", "", "", dynamic, askSOCKS5),
	}
	for _, r := range routes {
		r.quietEnd = true
	}
	return routes
}

// listening reports whether all these ports of 127.0.0.1 are listening: in the table of this
// thread's network namespace, the local address is followed by an empty remote one and the state
// LISTEN. /proc/net is that of the main thread, which may have entered the namespace of another
// test.
func listening(t *testing.T, addresses []string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		port := netip.MustParseAddrPort(address).Port()
		line := fmt.Sprintf(" 0100007F:%04X 00000000:0000 0A ", port)
		if !strings.Contains(string(table), line) {
			return false
		}
	}
	return true
}

// danteRoute returns a route through dante to targets on a host of its own.
func danteRoute(t *testing.T) *route {
	t.Helper()
	h := newHost(t, "")
	_, proxy := startDante(t, h)
	r := proxyRoute("dante", "", place(h.name), proxy, askSOCKS5As)
	r.quietEnd = true
	return r
}

// directRoute returns a route without a tunnel.
func directRoute() *route { return &route{name: "direct", connect: place("").dial} }

var errNotTCP = errors.New("not a TCP connection")
