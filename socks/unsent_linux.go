package socks

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent reports whether the peer of a connection has yet to acknowledge some of what was written
// to it. It is false for one that can't be reset, and once the connection has failed.
func unsent(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if _, resets := conn.(lingerer); !resets || !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var queued int
	var queueErr error
	err = raw.Control(func(fd uintptr) { queued, queueErr = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
	return err == nil && queueErr == nil && queued > 0
}
