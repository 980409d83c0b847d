package takeover

import "time"

const (
	// maxMessage bounds a message, in bytes: a full replay cache has 5 MiB.
	maxMessage = 32 << 20

	// MaxListeners bounds the listeners. Linux passes at most 253 descriptors in a message.
	MaxListeners = 128
)

const (
	// stepTimeout bounds each step until the new process serves. It reads its files meanwhile.
	stepTimeout = 30 * time.Second

	// writeTimeout bounds how long a message may wait for the other process to read.
	writeTimeout = 10 * time.Second

	// claimTimeout bounds how long a handshake waits for the other process to answer a claim.
	claimTimeout = 5 * time.Second
)
