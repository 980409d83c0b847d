// Package speed measures what one session of a tunnel carries, and finds out what limits it.
//
// The remote serves a test to the session of an admitted client, on streams of the kind
// mux.StreamService. Such a stream names a service in place of a host, so no host can be taken for
// one. A test is a stream to [Control], and while that is open any streams to [Download] and
// [Upload] of the same session:
//
//	speed       the client writes lines of JSON, {"op":"ping"} or {"op":"look"}; the remote answers
//	            each with a line: {} or its [Snapshot]. It ends the test when the client closes it
//	speed/down  the remote sends as fast as it can, until the client closes the stream
//	speed/up    the client sends as fast as it can, and the remote counts
//
// Unknown fields are ignored, an unknown op is answered with {}, so that the format can grow.
//
// [Server] is the remote's end, [Measure] the local's. Both learn of the network only through
// connections that they are given.
package speed
