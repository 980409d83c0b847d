package status

import "time"

const (
	// maxConns bounds the connections that are served at once. Others wait in the kernel.
	maxConns = 64

	// maxEventStreams bounds the event streams that are served at once: each page has one.
	maxEventStreams = 8

	// requestTimeout bounds the reading of a request, and writeTimeout the writing of an answer, or
	// of a part of an event stream. idleTimeout is how long a connection is kept for another
	// request, and keepaliveInterval how long an event stream is without a line.
	requestTimeout    = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = time.Minute
	keepaliveInterval = 15 * time.Second

	// maxHeader bounds the head of a request in bytes.
	maxHeader = 16 << 10
)
