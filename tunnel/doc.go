// Package tunnel is culvert's two nodes. [Remote] is where the traffic comes out: an HTTP handler that upgrades requests
// to WebSockets, admits their clients, and dials what the streams ask for. [Local] is the near end: it keeps one session
// to a remote up and gives out connections through it, to a front door such as SOCKS5, to port forwards, or to standard
// input and output.
//
//	Local:  client → forward or front door → DialContext → mux.Stream → session → protocol.Conn → WebSocket
//	Remote: WebSocket → protocol.Conn → session → mux.Stream → remote_stream.go dials → relay.go copies
//
// UDP takes the same way, as datagrams of a stream whose bytes datagram.go describes, one stream for each client of a
// forward (udp_forward.go) or association (local_associate.go), to a socket of its own at the remote (remote_exit.go).
//
// The other way round the remote binds an address for a local (remote_listen.go) that keeps it bound (local_reverse_bind.go), and opens a
// stream for each connection (local_reverse.go), or each client of a UDP port (local_reverse_udp.go).
//
// The package knows nothing of flags or of the handshake's bytes. What a failure means is in its type: see local_errors.go.
package tunnel
