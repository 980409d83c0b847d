package control

import "time"

const (
	// maxConns bounds the connections that are served at once. More wait in the kernel.
	maxConns = 16

	// maxHead and maxBody bound a request, in bytes. Requests have some hundred.
	maxHead = 4 << 10
	maxBody = 16 << 10

	// maxReply bounds an answer, in bytes: 4,096 streams and 30,000 sessions have 25 MB.
	maxReply = 64 << 20

	// maxName is the length of a name. The path of a socket has at most 107 bytes on Linux.
	maxName = 64

	// maxNumber bounds the search for a default name that is free.
	maxNumber = 10_000
)

const (
	// headTimeout bounds how long a request may take to arrive.
	headTimeout = 5 * time.Second

	// idleTimeout bounds how long a connection may wait for its next request.
	idleTimeout = 30 * time.Second

	// keepInterval is how often a node looks whether its socket is still there.
	keepInterval = 30 * time.Second

	// requestTimeout bounds a request and its answer, except that to stop. A remote may take its time
	// to bind an address.
	requestTimeout = 60 * time.Second

	// meetingTimeout bounds how long a node that was asked to hand over waits for the connection.
	meetingTimeout = 10 * time.Second

	// retireTimeout bounds how long a node that gives up its name waits for requests to be answered.
	retireTimeout = time.Second

	// stateTimeout bounds how long a node may take to report its state.
	stateTimeout = 5 * time.Second
)
