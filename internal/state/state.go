package state

import "time"

// Version is the version of the format.
const Version = 1

// State is a snapshot of a node. It contains no secret, and no byte of what streams carry.
type State struct {
	Version  int       `json:"version"`
	Time     time.Time `json:"time"`
	Node     Node      `json:"node"`
	Carrier  *Carrier  `json:"carrier"` // of a local; null while it has none, and at a remote
	Sessions []Session `json:"sessions"`
	Streams  []Stream  `json:"streams"` // at most MaxStreams, of those that are open
	Events   []Event   `json:"events"`  // the last ones, the oldest first
	Totals   Totals    `json:"totals"`
}

// Kinds of a Node.
const (
	KindLocal  = "local"
	KindRemote = "remote"
)

// Node is the process.
type Node struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind"`
	Version   string     `json:"version"` // of the program
	PID       int        `json:"pid"`
	Started   time.Time  `json:"started"`
	PublicKey string     `json:"public_key"`
	Listen    []Listener `json:"listen"`
	Remote    string     `json:"remote,omitempty"` // URL, of a local
	Draining  bool       `json:"draining"`
}

// Kinds of a Listener.
const (
	ListenRemote  = "remote"  // for WebSockets
	ListenSocks   = "socks"   // for SOCKS and HTTP proxy clients
	ListenPAC     = "pac"     // for browsers that fetch their configuration
	ListenForward = "forward" // -L
	ListenReverse = "reverse" // -R: at the remote
	ListenStatus  = "status"  // for the status page and metrics
)

// Listener is an address on which a node accepts connections or datagrams.
type Listener struct {
	Kind    string `json:"kind"`
	Address string `json:"address"`          // as it was bound, with /udp for datagrams
	Target  string `json:"target,omitempty"` // of a forward; none for a proxy's
}

// Carrier is the WebSocket that carries a session.
type Carrier struct {
	Since             time.Time    `json:"since"`
	PeerKey           string       `json:"peer_key"`
	Certificate       *Certificate `json:"certificate,omitempty"` // of the peer
	Version           int          `json:"version"`               // of the handshake
	Suite             string       `json:"suite"`
	ForwardSecrecy    bool         `json:"forward_secrecy"`
	CongestionControl string       `json:"congestion_control,omitempty"`
	Address           string       `json:"address,omitempty"` // of the peer, or of the proxy before it
	RoundTripSeconds  float64      `json:"round_trip_seconds,omitempty"`
}

// Certificate is the certificate that a peer has presented.
type Certificate struct {
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
}

// States of a Session.
const (
	SessionCarried = "carried" // it has a carrier
	SessionAway    = "away"    // it waits for another one
	SessionEnding  = "ending"
)

// Session is a session with a client or, at a local, with the remote.
type Session struct {
	ID        string     `json:"id"` // shortened
	Key       string     `json:"key"`
	Comment   string     `json:"comment,omitempty"` // of the key's authorized-keys line
	From      string     `json:"from,omitempty"`
	Since     time.Time  `json:"since"`
	State     string     `json:"state"`
	AwaySince *time.Time `json:"away_since,omitempty"`
	Streams   int        `json:"streams"`       // open now
	Opened    uint64     `json:"streams_total"` // opened so far
	Traffic
	MemoryBytes int64    `json:"memory_bytes"`      // held by queues and unacknowledged data
	Limits      *Limits  `json:"limits,omitempty"`  // at a remote
	Carrier     *Carrier `json:"carrier,omitempty"` // at a remote
}

// Limits is what the client of a session uses of its share, in all its sessions.
type Limits struct {
	Client string `json:"client"` // whose share it is: a key or, with --allow-anyone, an address

	Sessions    int `json:"sessions"`
	MaxSessions int `json:"max_sessions"`
	Streams     int `json:"streams"`
	MaxStreams  int `json:"max_streams"`

	RateUp   int64 `json:"rate_up,omitempty"` // bytes a second from the client; 0 for no limit
	RateDown int64 `json:"rate_down,omitempty"`

	QuotaBytes     int64 `json:"quota_bytes,omitempty"`      // of a day; 0 for none
	QuotaUsedBytes int64 `json:"quota_used_bytes,omitempty"` // today
}

// Traffic is the payload of streams that was carried since their beginning, and recently. Sent is
// what went to the peer at the other end of the tunnel.
type Traffic struct {
	SentBytes     uint64  `json:"sent_bytes"`
	ReceivedBytes uint64  `json:"received_bytes"`
	SentRate      float64 `json:"sent_bytes_per_second"`
	ReceivedRate  float64 `json:"received_bytes_per_second"`
}

// States of a Stream.
const (
	StreamOpening    = "opening"     // the other end has not answered
	StreamOpen       = "open"        // both directions
	StreamHalfClosed = "half-closed" // one direction has ended
	StreamEnding     = "ending"      // what was written is still being sent
)

// Stream is an open stream of a session, or a flow of datagrams.
type Stream struct {
	ID       uint32    `json:"id"`      // unique in its session
	Session  string    `json:"session"` // its ID
	Kind     string    `json:"kind"`    // tcp, udp, unix, reverse, listen or service
	Listener string    `json:"listener,omitempty"`
	Target   string    `json:"target"`
	Since    time.Time `json:"since"`
	State    string    `json:"state"`
	Traffic
}

// Totals counts since the start of the node.
type Totals struct {
	Sessions     uint64 `json:"sessions"`
	Resumptions  uint64 `json:"resumptions"`
	CarriersLost uint64 `json:"carriers_lost"`
	Streams      uint64 `json:"streams"` // opened
	Traffic
	ResentBytes uint64 `json:"resent_bytes"` // sent again after resumptions
}

// List is the nodes that run on a machine.
type List struct {
	Version int      `json:"version"`
	Nodes   []Node   `json:"nodes"`
	Silent  []string `json:"silent,omitempty"` // the names of those that don't answer
}

// NewList returns the List of the nodes that took snapshots, and of the names of those that don't
// answer.
func NewList(states []State, silent []string) List {
	list := List{Version: Version, Nodes: []Node{}, Silent: silent}
	for _, s := range states {
		list.Nodes = append(list.Nodes, s.Node)
	}
	return list
}
