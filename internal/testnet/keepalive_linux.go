package testnet

import (
	"net"
	"syscall"
	"time"
)

// KeepAlive returns how long a TCP connection is idle before its peer is probed; 0 is for ever.
func KeepAlive(conn net.Conn) (idle time.Duration, err error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		var on, seconds int
		on, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		if err == nil && on != 0 {
			seconds, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
		}
		idle = time.Duration(seconds) * time.Second
	})
	if err == nil {
		err = controlErr
	}
	return idle, err
}
