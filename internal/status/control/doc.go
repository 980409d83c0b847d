// Package control is the control socket of a running node: a unix socket through which the node's
// own user, and root, ask what it is doing, stop it, and change it.
//
// The protocol is HTTP with JSON; docs/status.md describes it:
//
//	GET  /v1/state            state.State
//	POST /v1/reload           once done, 200, or an error
//	POST /v1/stop             202; the body ends when the node has
//	POST /v1/forwards/add     Forward → Added
//	POST /v1/forwards/cancel  Forward
//	POST /v1/restart          {}, once another process serves in its place
//	POST /v1/take-over        TakeOver; then the process connects to NAME.take
//
// An error is a JSON object as Error has it. [Listen] makes the socket, in a folder that belongs to
// the user and that nobody else may enter; [Serve] answers on it. [Open] and [Names] are for those
// who ask.
package control
