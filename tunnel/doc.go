// Package tunnel carries connections from one machine to another through a single secured
// WebSocket.
//
// A tunnel has two ends. A [Remote] is where the traffic comes out: an HTTP handler that admits
// clients and connects to the targets they ask for. A [Local] is the near end: it keeps one session
// with a remote, reconnects when the network fails, and opens connections through it:
//
//	remote, err := tunnel.NewRemote(tunnel.RemoteConfig{Identity: ..., Trust: ...})
//	...
//	go remote.Serve(ctx, listener)
//
//	local := tunnel.NewLocal(tunnel.LocalConfig{Address: ..., Key: ..., VerifyRemote: ...})
//	go local.Run(ctx)
//	conn, err := local.DialContext(ctx, "tcp", "example.org:443")
//
// The example of the package is a complete program. Keys, certificates and the lists of authorized
// keys come from package certs; what clients may reach and bind is decided by package
// [culvert/tunnel/policy]. By default a remote reaches everything except special addresses, and
// binds nothing.
//
// # What a Local offers
//
//   - [Local.DialContext] opens a connection; [Local.Relay] joins it to another.
//   - [Local.ServeForward] and [Local.ServeForwardUDP] forward a local port to a target that the
//     remote reaches.
//   - [Local.Associate] carries datagrams to any targets.
//   - [Local.Stdio] joins standard input and output to a target.
//   - [Local.ListenReverse] and [Local.ListenReverseUDP] accept connections and datagrams at the
//     remote; [Local.ServeReverse] and [Local.ServeReverseUDP] forward them to a target that the
//     local reaches.
//
// # Errors
//
// [Local.Run] and [Connect] fail with a [*ConnectError], which names the step that failed;
// [IsIdentityError] and [IsAdmissionError] tell a remote that can't be trusted and a client that is
// not admitted from trouble with the network. A target that the remote could not or would not reach
// is a *mux.OpenError, whose code tells why.
//
// # Using the package in a program
//
// The path of the module is culvert, which is not fetched from a server: a program takes the
// package in with a copy of the repository and a replace directive in its go.mod:
//
//	require culvert v0.0.0
//
//	replace culvert => ../culvert
//
// # Files
//
// Files that begin with local_ or remote_ belong to that end; the others serve both. A stream takes
// this path through them:
//
//	local_forward.go or DialContext → mux.Stream → session → protocol.Conn → WebSocket
//	WebSocket → protocol.Conn → session → mux.Stream → remote_stream.go → relay.go
//
// The package knows nothing of flags, nor of the bytes of the handshake.
package tunnel
