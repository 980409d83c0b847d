//go:build darwin || freebsd || linux

package sendqueue

import "net"

// stateOf asks for a connection's send queue.
func stateOf(conn *net.TCPConn) state {
	queue := state{empty: true}
	raw, err := conn.SyscallConn()
	if err != nil {
		return queue
	}
	raw.Control(func(fd uintptr) {
		pending, err := pendingOf(int(fd))
		queue = state{unknown: err != nil, empty: err == nil && pending == 0,
			progress: uint64(max(pending, 0))}
	})
	return queue
}
