// Package protocol secures WebSockets with NaCl keys: a handshake of three messages, in version 1
// or 2 of its specification, and then sealed records. It has both ends, and is byte-compatible with
// the reference implementation, the npm package node-sws 1.2.1.
//
// A client opens a WebSocket with a dialer of [NewDialer] and passes it to [Client]; a server gets
// one from [Upgrade] and passes it to [Server]. Both return a [Conn], which reads and writes
// records. Keys and certificates are those of package certs. The examples show both ends.
//
// The package starts no goroutines, opens no files and resolves no names.
//
// # Use in another program
//
// The module's path is culvert, which no module proxy serves. A program uses a copy of the
// repository, named in its go.mod:
//
//	require culvert v0.0.0
//	replace culvert => ../culvert
//
// # Messages
//
// The steps are the specification's; the methods of clientHandshake and serverHandshake are named
// after them.
//
//	step                client                                   server
//	1                   connects
//	2                   ClientHello             ->
//	3                                           <-               ServerHello
//	4                   verifies the ServerHello
//	4a grant            ClientReady             ->
//	4b reject           closes with a CloseCode
//	5                                                            verifies the ClientReady
//	5a grant                                                     (sends nothing)
//	5b reject                                                    closes with a CloseCode
//	6                   secure context          <->              secure context
//
// A handshake message is one text message with one JSON object. A byte array is a JSON array of
// integers from 0 to 255. The order of members is free, unknown members are ignored, and a known
// one may appear only once.
//
//	message      version  opc  members
//	ClientHello  1 or 2   0    client_public_key: 32 bytes, nonce: 8 bytes
//	ServerHello  same     1    server_public_key: 32 bytes, s_blackbox_a: box
//	ClientReady  same     2    s_blackbox_a: box
//
// Inside a box, after 16 bytes of Poly1305 tag and XSalsa20 encryption:
//
//	offset  size  content
//	0       8     the sender's nonce: its record counter's first value, little-endian
//	8       32    the sender's share key: the key of its records
//	40      rest  version 1: ignored, except for the extension's JSON
//	              version 2, server: JSON {"cert":{…},"requireCert":true|false}
//	              version 2, client: JSON of its certificate, or {} when none is required
//
//	box of       NaCl box between            nonce
//	ServerHello  server secret, client key   that in ClientHello
//	ClientReady  client secret, server key   that in ServerHello's box
//
// An 8-byte nonce is repeated three times to make NaCl's 24 bytes. The nonce that a client sends in
// its box is a fresh one, not that of its ClientHello.
//
// # Secure context
//
// A record is one binary message: secretbox of the payload under the sender's share key, 16 bytes
// longer than the payload. The record counter is incremented with each record, through all 64 bits,
// and wraps; returning to its start is an error. Order is the protection against replay, so nothing
// is skipped: a text message or a record that does not open ends the connection.
//
// A server writes only after it has read a record. The reference's client drops what arrives in the
// first 20 ms, and one dropped record desynchronises the counters for good.
//
// # The WebSocket
//
// gorilla/websocket does the HTTP part: it dials (dial.go) and upgrades (upgrade.go), and hands
// over the socket. From then on the wire (wire.go) owns it: it reads messages, answers pings, and
// ends the connection with a close frame. Frames are read (framereader.go) and written
// (framewriter.go) by this package, so that a record is sealed and opened in place. conn.go makes
// records of the messages.
//
// # The extension
//
// Two ends that both have it agree, within the same three messages, on fresh keys with forward
// secrecy that an attacker with a quantum computer can't recover, and on records of AES-256-GCM or
// ChaCha20-Poly1305. README.md, next to this file, has the whole construction and its assumptions.
// An end without it notices nothing, and the secure context is then the one above. The files are
// extension.go (the messages), keys.go (the key schedule) and aead.go (the records).
//
// # Threats
//
// Everything that arrives is bounded before it is parsed or opened (limits.go). A handshake has a
// deadline as a whole. On failure the peer gets a [CloseCode] with a fixed text, and the caller the
// details.
//
//   - Version 1 authenticates the server by its key alone, which nobody vouches for: VerifyServer
//     must compare it with a pin or a remembered key. The client is authenticated by its key in
//     both versions, and Admit decides.
//   - No message follows step 4a when the server grants. A client learns of a refusal (5b) from its
//     first reads or writes, as a [RefusedError]. Close frames are not sealed, so a
//     man-in-the-middle can send one; with the extension, the server's frame has a proof that the
//     client checks (RefusedError.Authenticated).
//   - The client chooses the nonce of the server's box. A replayed ClientHello would have the
//     server seal two plaintexts under one key and nonce, so a server answers each (client key,
//     nonce) once; [ReplayCache] documents what its bound leaves open.
//   - A key pair should serve one role. NaCl box does not distinguish directions: if one pair
//     serves a client and a server, a man-in-the-middle can forward the client's hello to that
//     server, so that it answers for another one. The attacker learns no key, but the client talks
//     to itself.
//   - Public keys of low order are refused; anyone can open a box for one. So are keys that aren't
//     in the canonical form of X25519, which ignores a bit: a hello that is sent again with that
//     bit flipped would not look like a replay.
//   - Without the extension there is no forward secrecy: recorded traffic can be opened with either
//     end's secret key, obtained later. ExtensionRequired refuses such a peer.
//   - Public keys travel in clear and identify both ends. TLS around the WebSocket covers that.
//   - Lengths and times of records are visible.
package protocol
