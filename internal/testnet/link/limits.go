package link

import "time"

const (
	// maxDelay bounds the one-way delay, as packets in flight are held in memory. A satellite link has
	// 0.3 s.
	maxDelay = 10 * time.Second

	// minRate is that of a modem, in bit/s; maxRate is more than any machine can emulate.
	minRate, maxRate = 1e3, 100e9

	// minMTU is the minimum that IPv6 allows (RFC 8200, section 5), maxMTU the maximum of a TUN
	// device.
	minMTU, maxMTU = 1280, 65535

	// defaultMTU is Ethernet's.
	defaultMTU = 1500

	// minDefaultQueue is the minimum size of a queue, in packets of full size, if the configuration
	// leaves it open.
	minDefaultQueue = 40

	// slabSize is how many bytes of memory for packets are allocated at once.
	slabSize = 256 << 10

	// deviceQueue is how many of a host's packets the kernel queues until they are read; it drops any
	// more. It is large, because Config.Queue should be the only queue that drops.
	deviceQueue = 10000

	// closeCheck is how often a sender that waits until a packet is due checks whether the link is
	// closed.
	closeCheck = 50 * time.Millisecond

	// commandTime bounds one run of the ip program.
	commandTime = 10 * time.Second
)
