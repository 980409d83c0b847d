package policy

import "time"

const (
	// fallbackDelay is how long addresses of one IP version are tried before those of the other are
	// too (RFC 8305, section 5, suggests 250 ms; package net uses 300).
	fallbackDelay = 250 * time.Millisecond

	// minAttempt is the least time that one of several addresses of a target gets, as in package
	// net.
	minAttempt = 2 * time.Second

	// maxTargetAddresses bounds the addresses of a name that are tried. There would be no time for
	// more.
	maxTargetAddresses = 32

	// maxUnanswered bounds the datagrams that are kept for the next address of a UDP target until
	// it has answered, and maxUnansweredSize the bytes of each. Larger ones are not kept: what a
	// program begins with, such as a query or a QUIC Initial, fits in a packet.
	maxUnanswered     = 4
	maxUnansweredSize = 2 << 10

	// maxUnsent bounds what waits in the kernel to be sent to a target, or to who connects to a port
	// of -R, in bytes, and smallUnsent where there are very many: a peer that doesn't read would
	// fill megabytes of the memory that all connections of the machine share. It has room for
	// several of the pieces in which the tunnel writes; with less, a single stream would be slower.
	maxUnsent   = 512 << 10
	smallUnsent = 16 << 10

	// loopbackIdle is how long a TCP connection within this machine may be idle before its peer is
	// probed: see LoopbackKeepAlive.
	loopbackIdle = 5 * time.Minute

	// maxRules bounds the rules of a remote, and those of one key: each new stream is checked
	// against all of them.
	maxRules = 4096

	// maxNameLength and maxLabelLength bound a host name and each of its labels, in bytes (RFC
	// 1035, section 2.3.4).
	maxNameLength  = 253
	maxLabelLength = 63
)
