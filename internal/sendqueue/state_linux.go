package sendqueue

import (
	"net"

	"golang.org/x/sys/unix"
)

// tcpClosed is the state of a connection that was reset (TCP_CLOSE in the kernel's tcp_states.h).
const tcpClosed = 7

// stateOf asks for a connection's send queue. SIOCOUTQ would not do: it stays as it was when the
// connection is reset.
func stateOf(conn *net.TCPConn) state {
	queue := state{empty: true}
	raw, err := conn.SyscallConn()
	if err != nil {
		return queue
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			pending := info.Notsent_bytes > 0 || info.Unacked > 0
			queue = state{empty: info.State == tcpClosed || !pending, progress: info.Bytes_acked}
		}
	})
	return queue
}
