package sendqueue

import (
	"net"

	"golang.org/x/sys/unix"
)

// tcpClosed is the state of a connection that was reset (TCP_CLOSE in the kernel's tcp_states.h).
const tcpClosed = 7

// stateOf asks for a connection's send queue. SIOCOUTQ has what is unsent or unacknowledged; it
// stays as it was when the connection is reset, which only TCP_INFO tells. That has such numbers
// too, but kernels before 4.6 and gVisor leave them 0.
func stateOf(conn *net.TCPConn) state {
	queue := state{empty: true}
	raw, err := conn.SyscallConn()
	if err != nil {
		return queue
	}
	raw.Control(func(fd uintptr) {
		pending, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if err != nil {
			queue = state{unknown: true}
			return
		}
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		over := err == nil && info.State == tcpClosed
		queue = state{empty: over || pending == 0, progress: uint64(pending)}
	})
	return queue
}
