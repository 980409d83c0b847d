package tunnel

import (
	"time"

	"culvert/tunnel/mux"
)

// Limits of both sides.
const (
	// DefaultMemory bounds what the streams of a process hold, in bytes: data that waits to be sent,
	// that is not acknowledged yet, and that was received and not read.
	DefaultMemory = 512 << 20

	// expiryCheck bounds how long an expired certificate can go unnoticed after the clock was set.
	expiryCheck = time.Minute

	// DrainTimeout is how long a local that was told to stop waits for its streams to end.
	DrainTimeout = 5 * time.Second

	// resetWatchDelay is how long after its end of file a connection is first watched for a reset.
	// Most end before that, and cost nothing for it.
	resetWatchDelay = time.Second

	// dialTimeout bounds an attempt to reach a target. It is below the time that browsers wait.
	dialTimeout = 20 * time.Second

	// openTimeout bounds how long the client of a forward waits for its stream: while there is no
	// session, and then until the other end has given up on the target.
	openTimeout = openWait + dialTimeout

	// clientWatchDelay is how long that may last before the client is watched: most are served by
	// then. What a client sends meanwhile is kept, at most maxEarly bytes, which has room for a
	// TLS ClientHello; the rest waits in the kernel.
	clientWatchDelay = 5 * time.Millisecond
	maxEarly         = 4 << 10

	// closedWait is how long a client that sent nothing and closed its side may wait for its stream:
	// it looks like one that has gone, but may only want to listen.
	closedWait = 5 * time.Second

	// maxHeaderBytes bounds the header of an HTTP request to the remote, and that of the answer of
	// a proxy on the way to it.
	maxHeaderBytes = 16 << 10

	// maxRequestLines bounds the lines of the head of a request to the remote, with the empty one at
	// its end: net/http needs a hundred bytes for the shortest. Browsers and proxies send some 40.
	maxRequestLines = 128

	// udpIdle is how long a stream of datagrams may be idle in both directions before it ends: what
	// RFC 4787, REQ-5, recommends for the mappings of address translators.
	udpIdle = 5 * time.Minute

	// maxUDPClients bounds the clients of a UDP port forward in either direction. Each holds a
	// stream, and a socket at the other end. One more replaces the one that was idle for the
	// longest time, of those at the address that has most, and first one that didn't send again
	// after an answer.
	maxUDPClients = 256

	// usualClients is how many clients of a local, targets of -R among them, have sockets with the
	// system's usual buffers. Of more, those on this machine have a receive buffer of receiveBuffer
	// bytes, which the kernel doubles. Otherwise what one sends faster than the tunnel takes it
	// fills 2 MB here and as much at its own end; 256 of those take all the kernel's memory for TCP,
	// and then every connection of the machine slows down. With a smaller one a single stream would
	// be slower.
	usualClients  = 32
	receiveBuffer = 256 << 10

	// udpRefusalPause is how long a client of a UDP port forward waits for another stream after the
	// other end has refused one.
	udpRefusalPause = time.Second
)

// Limits of the local.
const (
	// DefaultConnectTimeout bounds an attempt to reach the remote, from the lookup of its name to
	// the hello of the session.
	DefaultConnectTimeout = 30 * time.Second

	// helloTimeout bounds the hello of a new session within that: a server of the handshake that is
	// not a culvert remote may never answer. resumeTimeout is for a session that is resumed, which
	// can soon be tried again. On a slow path, either is helloTimes what the handshake took.
	helloTimeout  = 10 * time.Second
	resumeTimeout = 4 * time.Second
	helloTimes    = 16

	// hedgeDelay is how long a connection may take for all steps up to the handshake before another
	// is started along with it, maxHedges how many there are of an attempt. By satellite the steps
	// take about 6 s. When there was a session, it is hedgeTimes its round trip, at least hedgeMin.
	hedgeDelay = 8 * time.Second
	hedgeMin   = 2 * time.Second
	hedgeTimes = 16
	maxHedges  = 3

	// resolutionDelay and attemptDelay are RFC 8305's: how long a host's IPv4 addresses wait for
	// its IPv6 addresses, and the time between two attempts to connect.
	resolutionDelay = 50 * time.Millisecond
	attemptDelay    = 250 * time.Millisecond

	// associationMemory is what an association counts for in the memory budget, in bytes: a buffer
	// for datagrams in each direction, and one for their addresses.
	associationMemory = 192 << 10

	// openWait bounds how long a new connection waits while there is no session, so that users
	// don't notice a short reconnect.
	openWait = 10 * time.Second

	// maxCookies bounds the cookies that are kept and sent with an upgrade, in bytes of its header:
	// some times what a load balancer sets, and about what servers take in one header. More are
	// ignored.
	maxCookies = 8 << 10

	// backoffMin and backoffMax bound the pause before another attempt to connect. The first
	// attempt starts at once if the connection lasted for steadyAfter, and after backoffBroken if
	// it carried data; otherwise the pause continues to grow. It grows to backoffBusy only while
	// there are streams, whose users wait.
	backoffMin    = 500 * time.Millisecond
	backoffMax    = 30 * time.Second
	backoffBusy   = 8 * time.Second
	backoffBroken = 50 * time.Millisecond
	steadyAfter   = 5 * time.Second

	// askedJitter is added to the pause that a server asks for, which it can only give in seconds.
	askedJitter = time.Second

	// DefaultFailoverAfter is how long a lost carrier may be away until new streams go to another
	// remote: many a change of the network takes less. DefaultFailbackAfter is how long a session
	// to a better remote has to last until they go there: a remote that comes and goes is worse.
	// While an attempt to a better remote is under way, another one that was quicker waits for
	// failoverGrace.
	DefaultFailoverAfter = 2 * time.Second
	DefaultFailbackAfter = 30 * time.Second
	failoverGrace        = 250 * time.Millisecond

	// maxRetryAfter bounds the pause that an HTTP server asks for: anybody on the way can.
	maxRetryAfter = time.Minute

	// noticePause is the least time from one attempt to the next when the network has changed
	// without a change of the path to the remote.
	noticePause = time.Second

	// stallMin is how long an attempt may make no progress when the network has changed before
	// another replaces it, and twice as long each time after that; four round trips of the session,
	// if that is longer. stallUnknown is for when there was no session.
	stallMin     = time.Second
	stallUnknown = 3 * time.Second

	// networkSettle is how long notices of changes of the network are collected after one was acted
	// on, networkPoll how often the machine's addresses are read where there are no notices.
	networkSettle = 100 * time.Millisecond
	networkPoll   = 5 * time.Second

	// ClockNotice is how much the clocks of both ends may differ before people are told: certificates
	// are valid for days, and logs are compared by the minute.
	ClockNotice = time.Minute

	// tlsProbeTimeout bounds the test for TLS of a server that does not understand HTTP.
	tlsProbeTimeout = 5 * time.Second

	// reachedLife is how long a target that was reached is assumed to be reachable: about as long
	// as a browser stays with a site. maxReached bounds the targets that are remembered for that,
	// some hundred bytes each; the oldest is dropped first.
	reachedLife = 5 * time.Minute
	maxReached  = 4096

	// maxForwardConns bounds the connections of a port forward. One more waits in the listener's
	// queue.
	maxForwardConns = 16 << 10

	// maxWaitingReverse bounds the connections of a reverse forward that wait to be accepted at the
	// local. One more is refused.
	maxWaitingReverse = maxListenerConns

	// maxReverseFlows bounds the clients of one UDP port of the remote at the local, where each
	// holds a socket. One more is refused. It is twice maxUDPClients because a client that the
	// remote has replaced takes a moment to end here.
	maxReverseFlows = 2 * maxUDPClients

	// maxReverseNames bounds the names of targets of -R that are looked up at once: anybody at the
	// remote may ask for them, and on some systems each takes a thread, of which the process has 500
	// and needs some to reconnect. Others wait.
	maxReverseNames = 128

	// listenTimeout bounds how long a local waits for the remote to listen, and then the remote for
	// the local to be ready: a local that is not ready in time has to ask again.
	listenTimeout = 15 * time.Second

	// maxBoundAddress bounds the line in which the remote reports what it has bound, a path or a
	// host and port, in bytes.
	maxBoundAddress = 512
)

// Limits of the remote.
const (
	// DefaultDrainTimeout is how long a remote that was told to stop waits for the streams of its
	// sessions to end. It tells one session after another, drainPause apart on average, for at most
	// a quarter of that time, and cuts what is left in the same order: all have as long. Sessions
	// that move while the remote goes on each have all of it.
	DefaultDrainTimeout = 30 * time.Second
	drainPause          = 10 * time.Millisecond

	// moveJitter is the part of its greatest age by which a session may move sooner.
	moveJitter = 5

	// newcomerWait is how long a remote that has handed over its listeners waits, before it drains,
	// for those whose connections it had accepted, and newcomerPoll how often it looks.
	newcomerWait = 5 * time.Second
	newcomerPoll = 10 * time.Millisecond

	// DefaultMaxSessions limits the sessions of a remote.
	DefaultMaxSessions = 1024

	// DefaultClientSessions limits the sessions of one client: no client takes all, and a key may
	// still be on many machines.
	DefaultClientSessions = 256

	// leastRetired is how many sessions a client may have besides that it has retired, even if its
	// share is less: one for each switch to another remote and back, while old streams last.
	leastRetired = 8

	// DefaultClientStreams limits the streams of one client in all its sessions: as many as one
	// session may have.
	DefaultClientStreams = mux.DefaultMaxStreams

	// streamMemory is what a stream counts for in the memory budget, in bytes, apart from its data:
	// two goroutines and their stacks. leastStreams a client may have however little is left.
	streamMemory = 16 << 10
	leastStreams = 64

	// crowd is how many streams of a client, and targets of -R at a local, have sockets with the
	// system's usual buffers, which fill when nobody reads the stream. Those of more streams begin
	// small: all connections of a machine suffer when the kernel's memory for TCP runs out, which
	// isn't in the memory budget.
	crowd = 256

	// burstPart and minBurst bound what the streams of a client that has a rate carry at once: the
	// part of a second, and at least as many bytes. Less would cost more turns of its streams.
	burstPart = 20
	minBurst  = 4 << 10

	// datagramBurstPart bounds in the same way the datagrams that pass at once, to at least one:
	// the queues of routers are about as long.
	datagramBurstPart = 5

	// quotaExcess is the part of its quota that a client may use beyond it with open streams.
	quotaExcess = 10

	// shareLogPause is how often the log reports that a client wants more than its share.
	shareLogPause = 10 * time.Second

	// maxHandshakes bounds the clients of a remote that are being admitted. Each holds about 30 KiB
	// of buffers until the handshake times out, or up to a MiB if it sends the largest messages of
	// version 2. sourceHandshakes bounds those of one address, and reservedHandshakes are only for
	// addresses that have a session. One more replaces the one that began first: a handshake takes
	// few round trips, so those that last hold places rather than being slow.
	maxHandshakes      = 256
	sourceHandshakes   = 32
	reservedHandshakes = 64

	// handshakeHold is how long a handshake keeps its place at least: two or three round trips on
	// almost any path. Those of its own address are asked to come later; others wait for their turn,
	// by handshakeWait at most: it comes sooner even when all of maxStrangers wait. handshakeLook is
	// how soon a place that becomes free is noticed.
	handshakeHold = 2 * time.Second
	handshakeWait = 15 * time.Second
	handshakeLook = 50 * time.Millisecond

	// DefaultMaxHandshakeRate limits the handshakes that a remote begins in a second. Each takes it
	// about half a millisecond of a processor, so half of one at most. A part of as many may begin
	// at once, and a part of these are for clients that return. An address takes a part of a
	// second's at most, handshakeSourcePart. The others are told to come when it is their turn, but
	// not later than after handshakeTurnMost: some won't come again.
	DefaultMaxHandshakeRate = 1000
	handshakeBurstPart      = 4
	handshakeReservedPart   = 4
	handshakeSourcePart     = 4
	handshakeTurnMost       = time.Minute

	// fullTime is for how long a remote that is full takes itself for that without a look at its
	// sessions.
	fullTime = 100 * time.Millisecond

	// maxClientListeners bounds the listeners of a remote for one client, in all its sessions, and
	// maxListenerConns the connections of each: they are descriptors of the remote. One more
	// connection waits in the listener's queue.
	maxClientListeners = 64
	maxListenerConns   = 4 << 10

	// leastCallers is how many connections to the ports of -R of a client any source may have, and
	// all together. Beyond that, a source may have as many as it leaves to others, and all together
	// as many streams as they leave to the client.
	leastCallers = 4

	// earlyCallers bounds the connections that wait for a listener of -R until its local is ready.
	// The kernel keeps what they send, in memory that all connections of the machine share.
	earlyCallers = 16

	// handshakeMemory is what a handshake counts for in the memory budget, and exitMemory what a UDP
	// socket does, also that of a port or a client of -R, in bytes: the buffers that they usually
	// hold.
	handshakeMemory = 64 << 10
	exitMemory      = 64 << 10

	// maxExits and maxClientExits bound the UDP sockets of a remote, and those for one client, in
	// all its sessions: each is a descriptor and a buffer of 64 KiB. One more is refused.
	maxExits       = 4 << 10
	maxClientExits = 1 << 10

	// maxTests bounds the speed tests of a remote, each of which may use all of its network, and
	// clientTests those of one client. One more is refused.
	maxTests    = 8
	clientTests = 1

	// maxTargets bounds the targets whose addresses an association remembers, and targetLife for
	// how long: as long as many names live in the DNS. A name that was not found is looked up again
	// after noTargetLife.
	maxTargets   = 1 << 10
	targetLife   = time.Minute
	noTargetLife = 5 * time.Second

	// maxLookups bounds the concurrent lookups of one association, and maxWaitingDatagrams the
	// datagrams that wait for each. More are dropped.
	maxLookups          = 16
	maxWaitingDatagrams = 4

	// maxContacts bounds the hosts that may answer an association. A client of a distributed hash
	// table talks to some hundreds at a time.
	maxContacts = 4 << 10

	// maxClientLookups, maxClientWaiting (in bytes), maxClientTargets and maxClientContacts bound
	// the same for all associations of one client: it may have maxClientExits of them, and few use
	// much.
	maxClientLookups  = 16 * maxLookups
	maxClientWaiting  = 4 << 20
	maxClientTargets  = 16 * maxTargets
	maxClientContacts = 16 * maxContacts

	// waitingChunk is in what pieces, in bytes, the memory budget counts what waits.
	waitingChunk = 64 << 10

	// maxNames bounds the names that are looked up at once, for the streams and datagrams of all
	// clients. Others wait. Each takes descriptors, or, on some systems, a thread, of which the
	// process has 500.
	maxNames = 256

	// headerTimeout bounds how long an HTTP client of the remote may take for TLS and for its
	// request. By satellite, a packet that is lost twice takes over 10 s.
	headerTimeout = 30 * time.Second

	// maxStrangers bounds the connections of a remote on which no session has been admitted: of
	// clients that are connecting, and of visitors. Each is a descriptor and about 20 KiB, 60 with
	// TLS. sourceStrangers bounds those of one address: some people behind one address who each
	// look at the fallback site with six connections of a browser. reservedStrangers are only for
	// addresses that have a session. One more replaces the one that has been without progress for
	// longest.
	maxStrangers      = 1024
	sourceStrangers   = 128
	reservedStrangers = 128

	// A client that fails to be admitted adds to the penalty of its address: penaltyFailed if it was
	// refused, penaltyTimeout if it let the handshake time out, penaltyLeft if it left or had to
	// make way. Until penaltyLimit is reached, further handshakes of the address wait for
	// penaltyDelay first; then they are refused until the penalty is over. A mobile client on a bad
	// link that comes back after its growing pauses doesn't reach it. maxPenalty bounds a penalty,
	// maxPenalized the addresses that are remembered, about 100 bytes each.
	penaltyFailed  = 5 * time.Second
	penaltyTimeout = 10 * time.Second
	penaltyLeft    = time.Second
	penaltyLimit   = 15 * time.Second
	penaltyDelay   = time.Second
	maxPenalty     = 10 * time.Minute
	maxPenalized   = 16 << 10

	// maxStrangerLines bounds the lines of the log in a strangerLinesPeriod about each kind of event
	// that strangers cause. More are left out.
	maxStrangerLines    = 60
	strangerLinesPeriod = time.Minute

	// maxStreamWarnings bounds the lines of the log in a streamWarningsPeriod about streams that were
	// refused, for all sessions together. One session has a line of each kind, and so has a forward of
	// a local.
	maxStreamWarnings    = 20
	streamWarningsPeriod = time.Second

	// maxListenerLines bounds the lines of the log in a listenerLinesPeriod about the listeners and
	// the speed tests of one session, which may begin and end in turns. More are left out.
	maxListenerLines    = 2 * maxClientListeners
	listenerLinesPeriod = time.Minute

	// maxComingLines and maxComingEvents bound the lines of the log in a comingsPeriod, and the events
	// among those that observers see, about the sessions of one client that begin, resume and end.
	// Many locals may have one key, and lose their connections together. More are left out.
	// maxComingClients is how many clients are told apart in that time.
	maxComingLines   = 1000
	maxComingEvents  = 20
	maxComingClients = 16 << 10
	comingsPeriod    = time.Minute

	// maxRefusalEvents bounds the events in a refusalEventsPeriod about clients that are refused,
	// among those that observers see. More are left out.
	maxRefusalEvents    = 6
	refusalEventsPeriod = time.Minute

	// stallTimeout bounds how long a request that is not a client's may be without progress: a body
	// that doesn't come, or an answer that isn't read.
	stallTimeout = 30 * time.Second

	// interruptWait is how long a request to the fallback site that is cut may go on writing.
	interruptWait = time.Second

	// maxFallback bounds the concurrent requests to the fallback site, and sourceFallback those of
	// one address. One more replaces the one that has been without progress for longest.
	maxFallback    = 512
	sourceFallback = 64

	// fallbackHeaderTimeout bounds how long the fallback site may take to be reached, and then to
	// begin its answer. A whole request may take fallbackTimeout, which is enough for long
	// downloads but lets no request hold its place forever.
	fallbackHeaderTimeout = 30 * time.Second
	fallbackTimeout       = 15 * time.Minute

	// fallbackSocketIdle bounds how long nothing may pass through a WebSocket of the fallback site.
	// Sites ping more often, since proxies close what is idle for a minute.
	fallbackSocketIdle = 2 * time.Minute

	// fallbackIdle and fallbackIdleConns bound how long, and how many, idle connections to the
	// fallback site are kept.
	fallbackIdle      = 30 * time.Second
	fallbackIdleConns = 16
)
