package socks

import "time"

const (
	// DefaultNegotiationTimeout bounds everything from accepting a connection to
	// knowing its target. A client on the same machine needs milliseconds; the
	// rest is room for a person's slow link to a door that isn't on loopback.
	DefaultNegotiationTimeout = 15 * time.Second

	// DefaultDialTimeout bounds one dial. It is longer than the connect timeout
	// of most browsers' attempts, so that the exit's own answer arrives first.
	DefaultDialTimeout = 30 * time.Second

	// DefaultMaxConns bounds the connections held at once, in any phase. A
	// browser opens some hundreds; each costs a file descriptor here.
	DefaultMaxConns = 4096

	// readBufferSize, in bytes, holds what a client has sent and nobody has
	// consumed yet: at most the largest message of a negotiation (513 bytes, RFC
	// 1929), and during a dial the data sent ahead of the reply. A TLS
	// ClientHello, the usual such data, fits. What exceeds it waits in the
	// kernel.
	readBufferSize = 4096

	// lingerTimeout and lingerBytes bound how long and how much is read from a
	// refused client after the last word to it. Closing with unread input makes
	// the kernel send a reset, which on some systems takes the reply from the
	// client before it was read. RFC 1928 section 6 allows 10 seconds.
	lingerTimeout = 2 * time.Second
	lingerBytes   = 64 << 10

	// acceptBackoffMin and acceptBackoffMax bound the pause after an accept that
	// failed for want of a resource, such as file descriptors.
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second

	// maxCredential is the longest user name or password, in bytes, that a client
	// can send (RFC 1929 section 2: one length byte each).
	maxCredential = 255
)
