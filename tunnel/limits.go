package tunnel

import "time"

const (
	// connectTimeout bounds one attempt to reach the remote, from the name's lookup to the session's hello.
	connectTimeout = 30 * time.Second

	// openWait bounds how long a new connection waits while the remote can't be reached, so that a short reconnect is not
	// seen by the user.
	openWait = 10 * time.Second

	// backoffMin and backoffMax bound the pause before a further attempt to reconnect. The first attempt after a connection
	// that stood for steadyAfter comes at once, that after one which did not, after backoffBroken.
	backoffMin    = 500 * time.Millisecond
	backoffMax    = 30 * time.Second
	backoffBroken = 50 * time.Millisecond
	steadyAfter   = time.Second

	// reachedLife is for how long a target that was reached is taken for one that can be: about as long as a browser stays
	// with a site. maxReached bounds the targets that are remembered for it, some hundred bytes each; the oldest goes first.
	reachedLife = 5 * time.Minute
	maxReached  = 4096

	// DrainTimeout is how long a node that was told to stop waits for its streams to end.
	DrainTimeout = 5 * time.Second

	// dialTimeout bounds how long the remote tries to reach a target. It is below the time that browsers wait.
	dialTimeout = 20 * time.Second

	// DefaultMaxSessions bounds the sessions of a remote.
	DefaultMaxSessions = 1024

	// maxRetention bounds what all sessions of a remote hold of data that was sent and not acknowledged, in bytes.
	maxRetention = 512 << 20

	// maxHandshakes bounds the clients of a remote that have not been admitted yet; one more gets status 503. Each holds
	// some 30 KiB of buffers for the handshake's timeout at most, one that sends the largest messages of version 2 up to a MiB.
	maxHandshakes = 256

	// maxForwardConns bounds the connections of a port forward; one more waits in the listener's queue.
	maxForwardConns = 16 << 10

	// maxSessionListeners bounds the listeners of a remote for one client, and maxListenerConns the connections of each: they
	// are descriptors of the remote. One more connection waits in the listener's queue.
	maxSessionListeners = 64
	maxListenerConns    = 4 << 10

	// maxWaitingReverse bounds the connections of a reverse forward that wait to be taken up at the local; one more is
	// refused.
	maxWaitingReverse = 256

	// listenTimeout bounds how long a local waits for the remote to listen.
	listenTimeout = 15 * time.Second

	// maxBoundAddress bounds the line in which the remote tells what it has bound, in bytes: a path or a host and port.
	maxBoundAddress = 512

	// acceptPauseMin and acceptPauseMax bound the pause after accepting has failed, for want of descriptors for example.
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second

	// udpIdle is how long a stream of datagrams may be idle in both directions before it ends: what RFC 4787, REQ-5,
	// recommends for the mappings of address translators.
	udpIdle = 5 * time.Minute

	// maxUDPClients bounds the clients of a UDP port forward, either way. Each holds a stream, and a socket at the other
	// end; one more takes the place of the one that was idle for the longest time.
	maxUDPClients = 256

	// maxReverseFlows bounds the clients of one UDP port of the remote at the local, where each holds a socket; one more is
	// refused. It is twice maxUDPClients, since one whose place the remote has given to another takes a moment to end here.
	maxReverseFlows = 2 * maxUDPClients

	// udpRefusalPause is how long a client of a UDP port forward, whose stream the other end has refused, waits for another.
	udpRefusalPause = time.Second

	// maxExits and maxSessionExits bound the UDP sockets of a remote, and those for one client: each is a descriptor and a
	// buffer of 64 KiB. One more is refused.
	maxExits        = 4 << 10
	maxSessionExits = 1 << 10

	// maxTargets bounds the targets that an association remembers the addresses of, targetLife for how long: as long as many
	// names in the DNS live. A name that was not found is asked for again after noTargetLife.
	maxTargets   = 1 << 10
	targetLife   = time.Minute
	noTargetLife = 5 * time.Second

	// maxLookups bounds the names that are looked up for one association at a time, and maxWaitingDatagrams the datagrams
	// that wait for one of them. More are dropped.
	maxLookups          = 16
	maxWaitingDatagrams = 4

	// maxContacts bounds the hosts that may answer an association. A client of a distributed hash table talks to some
	// hundreds at a time.
	maxContacts = 4 << 10

	// headerTimeout bounds how long an HTTP client of the remote may take for its request.
	headerTimeout = 10 * time.Second

	// maxHeaderBytes bounds an HTTP request's header at the remote, and the answer of a proxy before it.
	maxHeaderBytes = 16 << 10

	// maxFallback bounds the requests that are passed on to the fallback site at a time; one more gets status 503.
	maxFallback = 512

	// fallbackHeaderTimeout bounds how long that site may take to be reached, and then to begin its answer. A whole
	// request may take fallbackTimeout, which lets long downloads pass but no request hold its place for ever.
	fallbackHeaderTimeout = 30 * time.Second
	fallbackTimeout       = 15 * time.Minute

	// fallbackIdle and fallbackIdleConns bound how long, and how many, connections to that site are kept for more.
	fallbackIdle      = 30 * time.Second
	fallbackIdleConns = 16
)
