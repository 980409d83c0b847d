package tunnel

import (
	"net"
	"syscall"

	"culvert/internal/sendqueue"

	"golang.org/x/sys/unix"
)

// wasReset reports whether a connection of TCP, whose writing half this side has not closed, is
// over. Its reads may show no more than an end of file, when a write has met the error before. Unix
// sockets leave the error to reads, and are over when their peer has closed them in good order.
func wasReset(conn net.Conn) (reset bool) {
	if tcp, ok := sendqueue.Unwrap(conn).(*net.TCPConn); ok {
		control(tcp, func(fd int) { reset = hungUp(fd) })
	}
	return reset
}

// awaitReset waits until wasReset would report true, and returns true then; or until stopReading is
// called, or conn closed.
func awaitReset(conn net.Conn) bool {
	sc, ok := sendqueue.Unwrap(conn).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool { return hungUp(int(fd)) }) == nil
}

func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// boundReceiving bounds what waits in the socket of a client on this machine, which needs no large
// window.
func boundReceiving(client net.Conn) {
	tcp, ok := sendqueue.Unwrap(client).(*net.TCPConn)
	if !ok {
		return
	}
	if addr, ok := tcp.RemoteAddr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		tcp.SetReadBuffer(receiveBuffer)
	}
}

// control calls f with the connection's descriptor, unless it is closed.
func control(conn syscall.Conn, f func(fd int)) {
	if raw, err := conn.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
