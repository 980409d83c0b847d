package bounds

// The bounds, in the order of docs/limits.md.
const (
	Sessions Bound = iota
	ClientSessions
	ClientStreams
	QuotaExcess
	Streams
	ResumeWindow
	AwaySessions
	Handshakes
	SourceHandshakes
	HandshakeTurn
	HandshakeRate
	SourceHandshakeRate
	Memory
	ClientListeners
	SourceCallers
	Tests
	ClientTests
	UDPExits
	ClientUDPExits
	UDPLookups
	UDPWaiting
	ClientUDPLookups
	ClientUDPWaiting
	ClientUDPTargets
	PenaltyLimit
	Strangers
	SourceStrangers
	Fallback
	SourceFallback
	FallbackTime
	LocalDrain
	Drain
	Dial
	Open
	UDPClients
	NoSessionWait
	WaitingReverse
	ReverseFlows
	Record
	Target
	Buffered
	ControlFrames
	Datagram
	DatagramQueue
	DatagramWait
	Hello
	Linger
	Handshake
	Message
	ClientHello
	ClearPart
	Negotiation
	ProxyConns
	ProxyDial
	Associations
	AssociationIdle
	ProxyName
	Socks4Field
	HTTPHead
	HTTPTargetHead
	HTTPFields
	HTTPTargetFields
	HTTPInterim
	StatusEventStreams
	numBounds
)

// names are the names of the bounds in docs/limits.md, which label metrics.
var names = [numBounds]string{
	Sessions:            "sessions",
	ClientSessions:      "client-sessions",
	ClientStreams:       "client-streams",
	QuotaExcess:         "quota-excess",
	Streams:             "streams",
	ResumeWindow:        "resume-window",
	AwaySessions:        "away-sessions",
	Handshakes:          "handshakes",
	SourceHandshakes:    "source-handshakes",
	HandshakeTurn:       "handshake-turn",
	HandshakeRate:       "handshake-rate",
	SourceHandshakeRate: "source-handshake-rate",
	Memory:              "memory",
	ClientListeners:     "client-listeners",
	SourceCallers:       "source-callers",
	Tests:               "speed-tests",
	ClientTests:         "client-speed-tests",
	UDPExits:            "udp-exits",
	ClientUDPExits:      "client-udp-exits",
	UDPLookups:          "udp-lookups",
	UDPWaiting:          "udp-waiting",
	ClientUDPLookups:    "client-udp-lookups",
	ClientUDPWaiting:    "client-udp-waiting",
	ClientUDPTargets:    "client-udp-targets",
	PenaltyLimit:        "penalty-limit",
	Strangers:           "strangers",
	SourceStrangers:     "source-strangers",
	Fallback:            "fallback",
	SourceFallback:      "source-fallback",
	FallbackTime:        "fallback-time",
	LocalDrain:          "local-drain",
	Drain:               "drain",
	Dial:                "dial",
	Open:                "open",
	UDPClients:          "udp-clients",
	NoSessionWait:       "no-session-wait",
	WaitingReverse:      "waiting-reverse",
	ReverseFlows:        "reverse-flows",
	Record:              "record",
	Target:              "target",
	Buffered:            "buffered",
	ControlFrames:       "control-frames",
	Datagram:            "datagram",
	DatagramQueue:       "datagram-queue",
	DatagramWait:        "datagram-wait",
	Hello:               "hello",
	Linger:              "linger",
	Handshake:           "handshake",
	Message:             "message",
	ClientHello:         "client-hello",
	ClearPart:           "clear-part",
	Negotiation:         "negotiation",
	ProxyConns:          "proxy-conns",
	ProxyDial:           "proxy-dial",
	Associations:        "associations",
	AssociationIdle:     "association-idle",
	ProxyName:           "proxy-name",
	Socks4Field:         "socks4-field",
	HTTPHead:            "http-head",
	HTTPTargetHead:      "http-target-head",
	HTTPFields:          "http-fields",
	HTTPTargetFields:    "http-target-fields",
	HTTPInterim:         "http-interim",
	StatusEventStreams:  "status-event-streams",
}
