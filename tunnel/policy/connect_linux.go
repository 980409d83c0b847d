package policy

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"

	"culvert/internal/congestion"

	"golang.org/x/sys/unix"
)

// spareSockets are descriptors of the sockets that a dial uses, which outlive the dial.
type spareSockets struct {
	mu  sync.Mutex // guards all below: addresses may be dialed in parallel
	all []int
	end bool // the dial is over; what it still tries in parallel comes to nothing
}

// add is a net.Dialer's ControlContext. A dial works as well without a spare.
func (s *spareSockets) add(
	ctx context.Context, network, address string, raw syscall.RawConn,
) error {
	congestion.UnpaceDial(network, address, raw)
	return raw.Control(func(fd uintptr) {
		boundBuffers(int(fd), ctx.Value(smallBuffers{}) != nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.end {
			return
		}
		if spare, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			s.all = append(s.all, spare)
		}
	})
}

// BoundBuffers bounds what the kernel keeps of a TCP connection that was accepted as it is for one
// to a target, with small buffers or the usual ones: see WithSmallBuffers. It leaves all others
// alone.
func BoundBuffers(conn net.Conn, small bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { boundBuffers(int(fd), small) })
	}
}

// boundBuffers is BoundBuffers for a descriptor. The kernel bounds what a peer doesn't read by
// tcp_wmem alone, at megabytes; what was sent and not acknowledged yet doesn't count here.
func boundBuffers(fd int, small bool) {
	unsent := maxUnsent
	if small {
		unsent = smallUnsent
		beginSmall(fd)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
}

// smallBuffer is where the receive buffer of a socket begins that is one of very many, in bytes as
// the kernel counts them, which includes its own structures.
const smallBuffer = 16 << 10

// beginSmall makes a socket's receive buffer small. Setting a size also keeps the kernel from
// adapting it, so that is allowed again (socket(7), SO_RCVBUF; SO_BUF_LOCK is from Linux 5.16).
func beginSmall(fd int) {
	lock, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil {
		return
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer/2) // the kernel doubles it
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, lock)
}

// unread returns a connection that has something to read, nil if there is none.
func (s *spareSockets) unread() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, fd := range s.all {
		if n, err := unix.IoctlGetInt(fd, unix.SIOCINQ); err != nil || n == 0 {
			continue
		}
		file := os.NewFile(uintptr(fd), "")
		defer file.Close() // FileConn has a copy
		s.all = append(s.all[:i], s.all[i+1:]...)
		if conn, err := net.FileConn(file); err == nil {
			return conn
		}
		return nil
	}
	return nil
}

func (s *spareSockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.all {
		unix.Close(fd)
	}
	s.all, s.end = nil, true
}
