// Package load is the load generator: a target that serves ([Serve]) and the loads that a client
// puts on it, directly or through any SOCKS5 proxy ([Run]).
//
// The first byte of a connection to the target selects its kind:
//
//	D  the target sends without end
//	P  the same, at the rate that follows: 8 bytes, bytes per second
//	C  the same as D, under the congestion control that follows: its length in a byte, its name
//	U  the target discards what it receives, and counts it for the measurement whose id follows
//	E  the target echoes what it receives
//	T  the target sends a tally every tallyPause: the time, and how many bytes it has received
//	   over the U connections of the measurement whose id follows
//
// The tally has a connection of its own, not through the proxy, so that an upload is measured where
// it arrives. Both ends share the machine's clock, so a tally that arrives late is still correct.
//
// target.go is the target, page.go its page for browsers. client.go connects, bulk.go moves data,
// and throughput.go, echo.go, connect.go, idle.go, cold.go, rival.go, memory.go and many.go are the
// loads. sessions.go makes sessions for many.go in this process.
package load
