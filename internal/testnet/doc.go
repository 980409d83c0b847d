// Package testnet has the servers, relays and ports that tests of several packages need. All of
// it is on loopback unless a test brings its own listener, and ends with the test: cleanups close
// the listeners and connections, and wait for the goroutines. Package link emulates a slow link
// between two hosts.
//
// serve.go accepts connections, udp.go does the same for datagrams, relay.go puts something in
// the way that can cut, delay and silence, transfer.go moves contents that both ends can verify,
// port_unix.go has addresses that refuse or don't answer, poll.go waits.
package testnet
