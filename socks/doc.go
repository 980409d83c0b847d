// Package socks is a proxy server for SOCKS5, SOCKS4, SOCKS4a and HTTP on one port. It accepts
// clients such as browsers and curl, reads the target that each asks for, dials it with a given
// function, and passes both connections to a relay.
//
// How bytes are carried is up to [Config]: a [Dialer] gets the target exactly as the client named
// it (names are never resolved here), and a [Relay] copies until both directions have ended. A
// server is made with [New], and runs [Server.Serve] for each listener until [Server.Shutdown].
//
//	server, err := socks.New(socks.Config{Dial: dialer.DialContext, Relay: relay})
//	…
//	err = server.Serve(ctx, listener) // until ctx ends
//
// A connection goes through these steps:
//
//	accept → first byte picks the protocol → negotiate → dial → reply → relay
//	         └──── NegotiationTimeout ──────────────┘  └ DialTimeout
//
//	first byte  protocol
//	5           SOCKS5 (RFC 1928)
//	4           SOCKS4 and 4a
//	a method's  HTTP/1 (RFC 9110, 9112), also behind line ends
//	other       closed without a reply
//
// SOCKS5 supports CONNECT to IPv4, IPv6 and names, without authentication or with user name and
// password (RFC 1929). BIND is answered with "command not supported", and so is UDP ASSOCIATE if
// Config.Associate is nil. The request parser and the authenticators are those of armon/go-socks5;
// accepting, dispatch, replies, deadlines and the end of a connection are this package's.
//
// An association of UDP ASSOCIATE has a socket at the local address of the client's connection, and
// accepts datagrams only from that connection's remote address. Any port of it may send, and the
// last that did gets the answers. If clients must authenticate, only the port that the request
// names may send, and a request for port 0 is refused with "not allowed". Fragments are dropped,
// and so are datagrams for which there is no room; the log has why, at level debug. The association
// ends with the connection, and an association that is idle for too long ends the connection;
// Shutdown does not wait for it.
//
// SOCKS4 can't carry a password, so all its requests are refused when clients
// must authenticate.
//
// An HTTP client sends CONNECT, whose connection then goes the same way as that
// of SOCKS, or requests for http:// URLs, one after the other. Such a request
// goes to its target as it came but for what has to be judged: the target, the
// framing of the body and the fields for one hop (see docs/http-proxy.md), and
// nothing of either body is held. It gets no Via or other field that tells of a
// proxy: hiding that is what the user of a tunnel expects, so RFC 9110 section
// 7.6.3 is not followed. Authentication is that of the Basic scheme. The status
// of a failed dial gives its reason:
//
//	403  not allowed
//	502  refused, unreachable, no such name, or no valid response
//	503  nothing can be dialed at present
//	504  timed out
//
// A response that is cut short by its target is cut short for the client, after what came of it:
// its connection ends early, or is reset where only that shows. A request to switch to another
// protocol, such as WebSocket, becomes a relay once the target has agreed.
//
// A Dialer may return before its target is reached, so that the client's first
// bytes need not wait for that. SOCKS and CONNECT clients are then told of success,
// and reset if the target can't be reached; a forwarded request still gets the status
// of the failure.
//
// While a target is being dialed the client is watched: one that goes away
// cancels its dial, and what one sends ahead of the reply is kept, in order, for
// the target.
package socks
