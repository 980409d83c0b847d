package systemd

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are the sockets that the service manager has passed to the process, and that nobody has
// taken yet. All methods may be called concurrently.
type Sockets struct {
	mu      sync.Mutex
	sockets []socket
}

// socket is a socket of either kind.
type socket struct {
	listener net.Listener
	packets  net.PacketConn
}

// Inherit returns the sockets that the service manager has passed. Only the first call gets them.
// An error is about one that is neither listening nor for datagrams.
func Inherit() (*Sockets, error) {
	s := &Sockets{}
	var failed error
	for _, file := range activation.Files(true) {
		inherited, err := adopt(file)
		if err != nil {
			failed = err
		} else {
			s.sockets = append(s.sockets, inherited)
		}
		file.Close() // the listener has a duplicate
	}
	return s, failed
}

func adopt(file *os.File) (s socket, err error) {
	if s.listener, err = net.FileListener(file); err == nil {
		return s, nil
	}
	s.packets, err = net.FilePacketConn(file)
	return s, err
}

// Add adds a listener that another process has handed over.
func (s *Sockets) Add(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = append(s.sockets, socket{listener: ln})
}

func (s socket) addr() net.Addr {
	if s.packets != nil {
		return s.packets.LocalAddr()
	}
	return s.listener.Addr()
}

// Listener returns the passed listener that is bound to an address: HOST:PORT, :PORT or unix:PATH.
// It returns nil if there is none.
func (s *Sockets) Listener(address string) net.Listener {
	found := s.take(func(s socket) bool { return s.listener != nil && bound(s.addr(), address) })
	return found.listener
}

// PacketConn returns the passed socket for datagrams that is bound to an address, or nil.
func (s *Sockets) PacketConn(address string) net.PacketConn {
	found := s.take(func(s socket) bool { return s.packets != nil && bound(s.addr(), address) })
	return found.packets
}

func (s *Sockets) take(wanted func(socket) bool) (found socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.sockets, wanted); i >= 0 {
		found = s.sockets[i]
		s.sockets = slices.Delete(s.sockets, i, i+1)
	}
	return found
}

// Left returns the addresses of the sockets that nobody has taken.
func (s *Sockets) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addresses []string
	for _, left := range s.sockets {
		address := left.addr().String()
		if strings.HasPrefix(left.addr().Network(), "unix") {
			address = "unix:" + address
		}
		addresses = append(addresses, address)
	}
	return addresses
}

// bound reports whether a socket's address is the one that is asked for. For systemd, as for Go, a
// port alone is on all addresses of both families, and on those of IPv4 where there are no others;
// 0.0.0.0 is on those of IPv4 alone.
func bound(addr net.Addr, asked string) bool {
	if path, ok := strings.CutPrefix(asked, "unix:"); ok {
		return strings.HasPrefix(addr.Network(), "unix") && addr.String() == path
	}
	have, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(asked)
	if err != nil {
		return false
	}
	if host == "" {
		host = "::"
	}
	want, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil { // a name, or a port's
		resolved, err := net.ResolveTCPAddr("tcp", asked)
		if err != nil {
			return false
		}
		want = resolved.AddrPort()
	}
	a, b := have.Addr().Unmap(), want.Addr().Unmap()
	all := a.IsUnspecified() && b.IsUnspecified() && !b.Is4()
	return have.Port() == want.Port() && (a == b || all)
}
