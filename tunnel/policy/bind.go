package policy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The prefixes of an address to bind: that of host:port for TCP, of host:port for UDP, and of an
// absolute path. A target that is a path has UnixPrefix too.
const (
	TCPPrefix  = "tcp:"
	UDPPrefix  = "udp:"
	UnixPrefix = "unix:"
)

// Bind is an address that a client asks the remote to listen on.
type Bind struct {
	Addr   netip.AddrPort // :: for all addresses of both IP versions, as in package net
	UDP    bool           // Addr is a UDP address, not a TCP one
	Socket string         // an absolute path; then Addr is the zero value
}

// ParseBind parses an address to bind, which begins with one of the prefixes. The host may be an
// address, localhost, or * or nothing for all addresses. An error is ErrBadTarget.
func ParseBind(text string) (Bind, error) {
	if socket, ok := strings.CutPrefix(text, UnixPrefix); ok {
		if !isSocketPath(socket) {
			return Bind{}, ErrBadTarget
		}
		return Bind{Socket: socket}, nil
	}
	hostPort, udp := strings.CutPrefix(text, UDPPrefix)
	if !udp {
		var tcp bool
		if hostPort, tcp = strings.CutPrefix(text, TCPPrefix); !tcp {
			return Bind{}, ErrBadTarget
		}
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return Bind{}, ErrBadTarget
	}
	switch strings.ToLower(host) {
	case "", "*":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return Bind{}, ErrBadTarget
	}
	return Bind{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), UDP: udp}, nil
}

// Listen binds an address that is not a UDP one.
func (b Bind) Listen() (net.Listener, error) {
	if b.Socket != "" {
		return ListenUnix(b.Socket)
	}
	return net.Listen("tcp"+b.version(), b.Addr.String())
}

// ListenUDP binds an address that is a UDP one.
func (b Bind) ListenUDP() (*net.UDPConn, error) {
	return net.ListenUDP("udp"+b.version(), net.UDPAddrFromAddrPort(b.Addr))
}

// version completes the name of a network, so that an IPv4 address is bound for IPv4 alone. Package
// net takes 0.0.0.0 for all addresses of both versions, which is more than was asked for, and maybe
// more than is granted.
func (b Bind) version() string {
	if b.Addr.Addr().Is4() {
		return "4"
	}
	return ""
}

// Conflicts reports whether b and other may not be bindable at once, judging by ports and paths
// alone.
func (b Bind) Conflicts(other Bind) bool {
	return b.Socket == other.Socket && b.UDP == other.UDP && b.Addr.Port() == other.Addr.Port()
}

// ListenUnix binds a socket that only its owner may connect to. It replaces the file of a process
// that is gone.
func ListenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, syscall.EADDRINUSE
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		}
	}
	// The socket gets its mode in a private folder, before it gets its name: nobody else can
	// connect in between.
	private, err := os.MkdirTemp(filepath.Dir(path), ".culvert-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	inside := filepath.Join(private, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: inside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(inside, 0o600), os.Link(inside, path)); err != nil {
		ln.Close()
		return nil, err
	}
	return &unixListener{ln, path}, nil
}

// unixListener has the address of its file, and removes that when it is closed.
type unixListener struct {
	net.Listener
	path string
}

// Addr returns the file's path as it was given.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	err := l.Listener.Close()
	if !errors.Is(err, net.ErrClosed) {
		os.Remove(l.path)
	}
	return err
}
