// Package testnet provides the servers, relays and ports that tests of several packages need. They
// are on loopback unless a test provides its own listener, and end with the test: cleanups close
// the listeners and connections, and wait for the goroutines. Package link emulates a slow link
// between two hosts.
//
// serve.go accepts connections, udp.go receives datagrams, relay.go relays connections that it can
// cut, delay and silence, transfer.go moves contents that both ends can verify, http.go makes
// requests, port_unix.go provides addresses that refuse or do not answer, poll.go waits,
// keepalive_linux.go reads options of sockets, race.go tells of the race detector.
package testnet
