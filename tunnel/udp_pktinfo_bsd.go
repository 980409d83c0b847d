//go:build dragonfly || freebsd || netbsd || openbsd

package tunnel

import "golang.org/x/sys/unix"

// infoIPv4 is an option and the type of a control message, which holds only the destination. In a
// message that is sent it is IP_SENDSRCADDR, which has the same number (ip(4)).
const (
	infoIPv4   = unix.IP_RECVDSTADDR
	sizeIPv4   = 4
	answerIPv4 = 0
	sentIPv4   = 0
)
