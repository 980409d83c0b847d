package socks

import "time"

const (
	// DefaultNegotiationTimeout bounds everything from accepting a connection to knowing its
	// target. A client on the same machine needs milliseconds; the rest is for slow links to a
	// listener that isn't on loopback.
	DefaultNegotiationTimeout = 15 * time.Second

	// DefaultDialTimeout bounds one dial. It is longer than the connect timeout of most browsers'
	// attempts, so that the remote's own answer arrives first.
	DefaultDialTimeout = 30 * time.Second

	// DefaultMaxConns bounds the connections held at once, in any phase. A browser opens some
	// hundreds; each takes a file descriptor.
	DefaultMaxConns = 16 << 10

	// DefaultMaxAssociations bounds the associations of UDP ASSOCIATE. Each takes another file
	// descriptor, and what the tunnel counts for it in its memory.
	DefaultMaxAssociations = 256

	// DefaultUDPIdleTimeout is how long an association may be idle: what RFC 4787
	// REQ-5 recommends for the mappings of address translators.
	DefaultUDPIdleTimeout = 5 * time.Minute

	// maxDatagram is the largest payload of UDP, in bytes, from a 16-bit length.
	maxDatagram = 64<<10 - 1

	// readBufferSize, in bytes, holds what a client has sent and the server has not consumed yet:
	// at most the largest message of a negotiation (513 bytes, RFC 1929), and during a dial the
	// data sent ahead of the reply. A TLS ClientHello, the usual such data, fits. What exceeds it
	// waits in the kernel.
	readBufferSize = 4096

	// watchDelay is how long a dial may last before its client is watched. Cancelling sooner would
	// save nothing, and most dials are over by then.
	watchDelay = 5 * time.Millisecond

	// lingerTimeout and lingerBytes bound how long and how much is read from a refused client after
	// the last reply. Closing with unread input makes the kernel send a reset, and on some systems
	// the client then loses the unread reply. RFC 1928 section 6 allows 10 seconds.
	lingerTimeout = 2 * time.Second
	lingerBytes   = 64 << 10

	// maxName bounds a target's name, in bytes: longer ones exist neither in the DNS nor in SOCKS5.
	maxName = 255

	// maxSOCKS4Field bounds the user id and the name of a SOCKS4 request, in bytes.
	maxSOCKS4Field = maxName

	// maxHead bounds the head of an HTTP request: its first line and its fields, in
	// bytes. Servers accept 8 to 64 KiB; a page's cookies make most of it.
	maxHead = 64 << 10

	// maxTargetHead bounds the head of a target's response, in bytes. It is above
	// what any server is known to send.
	maxTargetHead = 256 << 10

	// maxFields bounds the fields of a request, and maxTargetFields those of a response.
	// Servers accept 100 to 1,000.
	maxFields       = 1000
	maxTargetFields = 4000

	// maxInterim bounds the interim responses ahead of a response. Browsers have no bound;
	// a server that reports its progress every second for a quarter of an hour stays below.
	maxInterim = 1000

	// maxLineEnds bounds the line ends ahead of a head, in bytes.
	maxLineEnds = 64

	// statusLineSlop is how many bytes may precede a response's status line, besides line
	// ends: what Chromium accepts.
	statusLineSlop = 4

	// headRoom, in bytes, is what a response's head and the beginning of its body may need
	// in one write beyond the head.
	headRoom = readBufferSize

	// maxChunkLine bounds the line of a chunk's size with its extensions, and that of a
	// trailer, and maxTrailer all trailers, in bytes. Chromium has the former.
	maxChunkLine = 16 << 10
	maxTrailer   = 64 << 10

	// maxTrailerName is how much of a trailer's name is looked at, in bytes: more than the
	// longest name that it may not have.
	maxTrailerName = 32

	// keepAliveTimeout bounds the wait for another request on an HTTP connection.
	// Browsers ask again at once or not at all, and open a new connection when one
	// was closed.
	keepAliveTimeout = 90 * time.Second

	// targetIdleTimeout is how long a connection to a target waits for another
	// request to it. Common servers close theirs after 5 seconds; being earlier
	// keeps a request from meeting that close on its way.
	targetIdleTimeout = 4 * time.Second

	// maxIdleTargets bounds the waiting connections to targets of one client
	// connection, which asks for one thing at a time.
	maxIdleTargets = 4

	// bodyTimeout bounds the wait for the next bytes of a request's body, and for a target
	// that takes none of it. Some come from a program that computes them, or a person at a
	// keyboard.
	bodyTimeout = time.Hour

	// halfClosedTimeout bounds the wait for the next bytes of a response whose client has
	// closed its half, as those do that have gone, or has sent other requests ahead of it:
	// it may have gone without that showing. Most answers that take longer are polls, of
	// clients that keep their half open.
	halfClosedTimeout = 5 * time.Minute

	// leftTimeout is how long the target of a client that was reset may take nothing of the
	// request's body before the exchange ends. As for a tunnel, what the client has sent is
	// still to arrive. leftCheck is how often the client is looked at meanwhile.
	leftTimeout = 30 * time.Second
	leftCheck   = time.Second

	// A client that is still sending its body when the response is over is heard on, since
	// many look for the response only then. While the target takes the body, that goes on.
	// What it doesn't take within lingerStall, after a response that it has called its last
	// one, is discarded, for lingerTotal and maxDiscarded bytes at most: 30 s at 70 Mbit/s.
	// A client that was told that its connection ends may be silent for lingerIdle.
	lingerIdle   = 5 * time.Second
	lingerStall  = 2 * time.Second
	lingerTotal  = 30 * time.Second
	maxDiscarded = 256 << 20

	// continueTimeout is how long a client that asks first whether to send its body
	// (Expect: 100-continue) waits for a target that doesn't say.
	continueTimeout = time.Second

	// largeBuffer, in bytes, is what a body is read into that comes faster than the read
	// buffer holds it.
	largeBuffer = 64 << 10

	// maxCredential is the longest user name or password, in bytes, that a client
	// can send (RFC 1929 section 2: one length byte each).
	maxCredential = 255
)
