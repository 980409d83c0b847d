// Package takeover is how a process takes the listeners of another one that runs on the same
// machine, and passes connections to it whose sessions are still there. The two talk over a unix
// socket, which carries descriptors:
//
//	old → new  sockets   the listeners; the old process still accepts
//	new → old  begin     the old process stops accepting; connections wait in the kernel
//	old → new  state     what the new one has to know before it accepts
//	new → old  serving   the new process accepts
//	old → new  released  the old process has given up its name, and begins to drain
//
// From the state on, until either ends:
//
//	old → new  route     a session has come to the old process, or has gone
//	old → new  claim     is a pair of a client's key and nonce new?
//	new → old  answer    to a claim
//	new → old  conn      a connection for a session of the old process, with what was read of it
//
// [Giver] is the old process, [Taker] the new one. If the new one ends before it serves, the old
// one goes on as if nothing had happened.
package takeover

import "errors"

// ErrUnsupported means that the system doesn't pass descriptors between processes.
var ErrUnsupported = errors.New("this system can't pass listeners to another process")

// errProtocol means that the other process doesn't keep to the protocol: it is of another version.
var errProtocol = errors.New("the other process doesn't understand: it may be of another version")
