package link

import "time"

const (
	// maxDelay bounds the one-way delay: what is on its way is held in memory. A satellite takes 0.3
	// s.
	maxDelay = 10 * time.Second

	// minRate in bit/s is that of a modem, maxRate one that no machine moves through this package.
	minRate, maxRate = 1e3, 100e9

	// minMTU is the least that IPv6 allows (RFC 8200, section 5), maxMTU the most that a TUN device
	// takes.
	minMTU, maxMTU = 1280, 65535

	// defaultMTU is Ethernet's.
	defaultMTU = 1500

	// minDefaultQueue in packets of full size is the least that a queue holds when the configuration
	// doesn't say.
	minDefaultQueue = 40

	// slabSize in bytes is how much memory for packets is allocated at once.
	slabSize = 256 << 10

	// deviceQueue in packets is what the kernel holds of a host's packets until they are read; what is
	// more, it drops. It is large, because Config.Queue should be the only queue that drops.
	deviceQueue = 10000

	// closeCheck is how often a sender that waits for a packet's time looks whether the link was
	// closed.
	closeCheck = 50 * time.Millisecond

	// commandTime bounds one run of the ip program.
	commandTime = 10 * time.Second
)
