// Package socks is the front door: it accepts clients such as browsers and
// curl, learns from each of them where it wants to go, has that target dialed,
// and hands both connections to a relay.
//
// It knows nothing of who carries the bytes. [Config] brings the two ends of
// that seam: a [Dialer], which is given the target exactly as the client named
// it (names are never resolved here), and a [Relay], which copies until both
// directions are over.
//
// A connection goes through these steps:
//
//	accept → first byte picks the protocol → negotiate → dial → reply → relay
//	         └──── NegotiationTimeout ──────────────┘  └ DialTimeout
//
// SOCKS5 (RFC 1928) is spoken with CONNECT to IPv4, IPv6 and names, without
// authentication or with user name and password (RFC 1929). BIND and UDP
// ASSOCIATE are answered with "command not supported". The request parser and
// the authenticators are those of armon/go-socks5; accepting, dispatch, replies,
// deadlines and the end of a connection are this package's. Another protocol on
// the same port implements the protocol interface of server.go and gets its
// first bytes in protocolFor.
//
// While a target is being dialed the client is watched: one that goes away
// cancels its dial, and what one sends ahead of the reply is kept, in order, for
// the target.
package socks
