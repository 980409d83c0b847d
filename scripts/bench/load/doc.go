// Package load is the load generator: a target that serves ([Serve]) and the loads that a client
// puts on it, directly or through a SOCKS5 proxy ([Run]). It doesn't know what the proxy is.
//
// A connection to the target begins with a byte for its purpose:
//
//	D  the target sends without end
//	U  the target takes what comes
//	E  the target sends back what comes
//	T  the target sends a tally every tallyPause: the time and what has come over all U
//	   connections so far
//
// The tally goes over a connection of its own and not through the proxy, so that an upload is
// measured where it arrives. Its time is the machine's, which both ends share: a tally that comes
// late is still true.
//
// target.go is the target, page.go its page for browsers. client.go connects, bulk.go moves data,
// and throughput.go, echo.go, connect.go and idle.go are the loads.
package load
