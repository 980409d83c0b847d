package takeover

import (
	"net"
	"net/netip"
	"os"

	"culvert/protocol"
)

// Messages, by the first byte of each.
const (
	sockets byte = iota + 1
	begin
	stateOf
	serving
	released
	route
	claim
	answer
	passed
)

// Offer is what the old process has.
type Offer struct {
	Version int      // of the protocol
	PID     int      // as the old process sees it
	Listen  []string // the addresses of the descriptors that follow
	Kept    []string // those of them whose socket files neither process removes

	// Manager is the environment through which a service manager is notified.
	Manager map[string]string
}

// Version is that of the protocol.
const Version = 1

// State is what the new process has to know before it accepts.
type State struct {
	Replay protocol.ReplayState
	Routes []string // of the sessions that stay
}

// Route is a session of the old process.
type Route struct {
	Name string
	Here bool // it has come, or has gone
}

// Claim asks whether a pair is new to the replay cache.
type Claim struct {
	ID, Pair uint64
}

// Answer is that to a Claim.
type Answer struct {
	ID  uint64
	New bool
}

// Conn is a connection that is passed on.
type Conn struct {
	Peer   netip.AddrPort // at its other end; invalid when unknown
	Client netip.AddrPort // by the header of the PROXY protocol; invalid when there was none
	Read   []byte         // what was read from it

	// Unknown means that there was a header, which names no client.
	Unknown bool
}

// Old is what the old process does. Its functions are called one after another, except Serve.
type Old struct {
	Offer Offer
	Files []*os.File // of the listeners, in the order of Offer.Listen; Give closes them

	// HandOver stops accepting, and returns the state. From then on Claim and Route of the Giver
	// may be called.
	HandOver func(*Giver) State

	// TakeBack accepts again.
	TakeBack func()

	// Release gives up all that the new process needs for itself: it accepts now.
	Release func()

	// Drain begins to drain, after Release, once the new process knows of that. Give may be cut at any
	// time then. It must not wait.
	Drain func()

	// Serve serves a connection that was passed back. It must not wait.
	Serve func(net.Conn, Conn)
}
