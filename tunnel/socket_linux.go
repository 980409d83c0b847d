package tunnel

import (
	"net"
	"syscall"

	"culvert/internal/rawsock"

	"golang.org/x/sys/unix"
)

// wasReset reports whether a connection of TCP is over, whether it was reset or both sides have
// closed their halves. Its reads may show no more than an end of file, when a write has met the
// error before. Unix sockets leave the error to reads.
func wasReset(conn net.Conn) bool {
	tcp := rawsock.TCPOf(conn)
	if tcp == nil {
		return false
	}
	raw := rawsock.SocketOf(tcp)
	return raw != nil && rawsock.HasHungUp(raw)
}

// awaitReset waits until conn, whose data has ended, is reset, and returns true then; or until
// stopReading is called, or conn closed.
func awaitReset(conn net.Conn) bool {
	sc, ok := rawsock.Unwrap(conn).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	events := resetEvents(sc)
	return raw.Read(func(fd uintptr) bool { return rawsock.Shows(fd, events) }) == nil
}

// resetEvents are the events of poll by which a socket, whose writing half this side has not
// closed, shows that it was reset. Unix sockets have hung up, too, once their peer has closed them
// in good order, with all that it sent still to be delivered.
func resetEvents(conn syscall.Conn) int16 {
	if _, ok := conn.(*net.TCPConn); ok {
		return unix.POLLHUP | unix.POLLERR
	}
	return unix.POLLERR
}

// boundReceiving bounds what waits in the socket to a peer on this machine, which needs no large
// window.
func boundReceiving(conn net.Conn) {
	tcp := rawsock.TCPOf(conn)
	if tcp == nil {
		return
	}
	if addr, ok := tcp.RemoteAddr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		tcp.SetReadBuffer(receiveBuffer)
	}
}

// setBacklog bounds the connections that wait in the kernel until a listener accepts them.
func setBacklog(ln net.Listener, most int) {
	if sc, ok := ln.(syscall.Conn); ok {
		control(sc, func(fd int) { unix.Listen(fd, most) })
	}
}

// control calls f with the connection's descriptor, unless it is closed.
func control(conn syscall.Conn, f func(fd int)) {
	if raw, err := conn.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
