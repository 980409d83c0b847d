//go:build darwin || linux

package tunnel

import "golang.org/x/sys/unix"

// infoIPv4 is an option and the type of a control message, in_pktinfo (ip(7)): index of the
// interface 4, address for answers 4, destination 4.
const (
	infoIPv4   = unix.IP_PKTINFO
	sizeIPv4   = 12
	answerIPv4 = 4
	sentIPv4   = 8
)
