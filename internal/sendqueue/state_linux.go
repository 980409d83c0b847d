package sendqueue

import "golang.org/x/sys/unix"

// tcpClosed is the state of a connection that was reset (TCP_CLOSE in the kernel's tcp_states.h).
const tcpClosed = 7

// pendingOf returns how many bytes of a socket's send queue are unsent or unacknowledged. SIOCOUTQ
// stays as it was when the connection is reset, which only TCP_INFO tells. That has such numbers
// too, but kernels before 4.6 and gVisor leave them 0.
func pendingOf(fd int) (int, error) {
	pending, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0, err
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err == nil && info.State == tcpClosed {
		return 0, nil
	}
	return pending, nil
}
