// Package mux carries many streams, and flows of datagrams, through one connection between two
// peers, and keeps them alive while that connection is replaced.
//
// A [Session] joins the two peers. Either of them opens streams ([Session.Open]) and flows
// ([Session.OpenFlow]); the other accepts them ([Session.Accept]). A [Stream] is a [net.Conn] with
// CloseWrite. A [Flow] sends and receives datagrams, each whole or not at all. Each names a
// [Target], which the session passes on without knowing what it means.
//
// A session sends records, through a [Carrier], which keeps them whole, in order and authentic: in
// culvert that is a secured WebSocket, in tests a pair of channels. A carrier may be lost. A
// session that can be resumed then waits for another ([Session.Resume] at the client, [Host.Accept]
// at the server), and its streams go on where they were.
//
//	client, err := mux.NewClient(ctx, carrier, mux.Config{})
//	stream, err := client.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: "example.com:80"})
//
//	server, err := mux.NewServer(ctx, carrier, mux.Config{})
//	in, err := server.Accept(ctx)
//	stream, err := in.(*mux.IncomingStream).Confirm()
//
// # Data flow
//
//	Stream.Write → send queue → scheduler → frames → record → Carrier
//	Carrier → record → frames → receive queue → Stream.Read
//
// A carrier is served by two goroutines. The reader parses records and queues what they bring; it
// never waits for a stream or the writer. The writer packs what is due into records, once the
// streams that are ready have added theirs; only it waits for the carrier. All state is guarded by
// the session's mutex. Methods that need it held end in Locked. What is true of one carrier only is
// in a link, which is made and dropped with the carrier; all else is in the Session.
// [Session.Close] stops the goroutines and waits for them. Neither occupies a processor for long
// without letting the runtime poll the sockets (package pollbreak), for which quiet streams wait.
//
// Data is held in pooled blocks. [Stream.ReadFrom] reads a socket once it is readable, into blocks
// with room before the data: a frame's header goes there, and the block becomes the record, which
// is kept until it is acknowledged. A record ends before a block of which it could hold only a
// part, so that all blocks stay whole. A record that arrives is decrypted into a block, and a large
// piece of data stays there until [Stream.Deliver] has written it to a socket. An idle stream holds
// no block, and no goroutine except the one that waits for its socket.
//
// # Frames
//
// A record is a sequence of frames. A frame has a header of 8 bytes, big-endian, then its payload:
//
//	offset 0  kind           1 byte
//	offset 1  payload length 3 bytes
//	offset 4  stream id      4 bytes, 0 for frames of the session itself
//
// A known kind with a payload of the wrong length ends the session, as does every other violation
// of the format; a close frame tells the peer.
//
// Two bits of the kind tell a receiver what to do with a kind that it does not know, so that the
// format can grow: 0x80 marks a frame that may be skipped, 0x40 one that is sequenced (see below).
// An unknown kind that may not be skipped ends the session.
//
//	kind       value  payload
//	hello      0x01   magic "culvert" (7), version (1), role (1), zero (3), largest record (4),
//	                  first credit (4), most streams (4), send position (8), receive position (8),
//	                  session id (16), proof (32), resume window in seconds (4); a receiver ignores
//	                  what follows
//	ping       0x02   token (8)
//	pong       0x03   the ping's token (8)
//	ack        0x04   receive position (8)
//	close      0x05   code (2), text (UTF-8)
//	draining   0x46   none: the sender takes no new streams, and opens none
//	open       0x50   stream kind (1), target length (2), target, first bytes of data
//	opened     0x51   none
//	refused    0x52   code (2), text (UTF-8)
//	data       0x53   bytes of the stream, at least one
//	credit     0x54   offset (8): the peer may send the stream's bytes before this offset
//	fin        0x55   none: the sender's half of the stream ends here
//	reset      0x56   code (2): both halves end here, cut short
//	datagram   0xa0   flags (1), bytes of the datagram
//
// Either side may say that it drains. The other answers once, behind the open frames that it has
// queued before, with a draining frame of its own: what it opens after that is refused. A peer that
// doesn't answer within a second is taken to have opened nothing more.
//
// A ping is answered once; of several that wait, only the newest is, which answers all of them.
// Tokens start at 1 and ascend throughout a session. Of what is not sequenced, a repetition does no
// harm: a pong or an ack that is repeated or late is ignored. A pong to a ping that was never sent
// is a violation, and so is an ack of more than was sent. Sequenced frames count in the positions,
// so each is sent once. Text is at most 256 bytes, a target 512.
//
// Each carrier begins with one hello from the client and one from the server, in this order: the
// reference handshake requires that the server speaks second. A server that refuses a new session
// answers with a close frame in place of its hello, so that a client which has the hello is in.
//
// # Positions
//
// Sequenced frames form one reliable, ordered sequence in each direction. A position is the number
// of bytes, headers included, of the sequenced frames up to a point between two frames. A carrier
// keeps its records in order, so frames carry no numbers: a hello announces how far its sender's
// sequence has come (send position) and how much of the other it has received (receive position),
// both sides count from there, and acks report progress. In a record, the sequenced frames are
// contiguous.
//
// # Resumption
//
// A session whose carriers export secrets (see [Exporter]) outlives its carrier. The server's first
// hello names it and announces for how long it is kept without a carrier. Both ends derive a key
// from the first carrier's exporter and the name, and retain what they send until it is
// acknowledged. A client that has lost its carrier brings another:
//
//	client → server  hello with the session's id, a proof, and the client's positions
//	server → client  hello with the same id, the server's proof, and its positions
//	both             continue to send at the other's receive position, and ping
//
// A proof is HMAC-SHA256 under the session's key over the sender's role and a value that only the
// two ends of the new carrier can export. It is worthless on another carrier, so an observer,
// another client, or somebody who knows the id learns nothing and changes nothing. The server also
// requires that the client's authenticated identity is that of the first carrier. A server that
// does not have the session, or does not allow the client to have it, answers as it answers a new
// client: with another id. The client's old session then fails with [ErrSessionUnknown], and its
// streams are cut short. The newest carrier of a session wins: the one before is detached before
// the hello that settles the receive position.
//
// What is retained is bounded per session and per process ([Config.MaxRetained], [Config.Memory]),
// and so is the number of sessions without a carrier ([HostConfig]). Frames that are not sequenced
// (pings, acks, datagrams) are lost with their carrier.
//
// Sending data pauses when too much is retained. Control frames, which are all other sequenced
// frames, are never held back, so the peer must not cause them without end: those that it has
// caused and not acknowledged are counted, from when they are queued, and when there are more than
// a peer that reads and acknowledges could ever cause, the session ends with code 33. So does the
// session of a peer that does not read. Credit that waits to be sent is one frame a stream, which
// holds the latest offset. A side whose own streams have as many unacknowledged frames opens no
// more for the time being.
//
// A carrier is given up when the peer owes a sign of life (it has not acknowledged what was sent,
// or not answered a ping) and gives none for [Config.Patience] or four round trips. Any byte that
// arrives is one, so a slow link that is merely full raises no alarm. In the other direction a
// peer is heard only when it has a whole record. So records are small on a slow link, and where
// the carrier's transport tells what has left, the wait goes on as long as bytes leave that the
// peer has to answer. A side that only receives waits for nothing of the kind, so it pings a
// second after data has ceased to come. When the path has probably changed, [Session.Probe] asks
// for the sign of life at once and waits for half a second or four round trips;
// [Session.DropCarrier] is for a path that is known to be gone.
//
// # Streams
//
// The client of a session opens streams with odd ids, the server with even ones, ascending and
// never used twice. Frames for a stream that has ended are dropped; frames for one that was never
// opened are an error. Each half of a stream ends with fin (a clean end of file) or by a reset,
// which the other side sees as an error that wraps ECONNRESET, never as an end of file. After the
// sender's fin, a reset means that the sender reads no more, and ends the other half.
//
// A reset does not overtake data. A sender whose source has failed ([Stream.CloseWithReset]) sends
// what it has accepted, under credit as always, and then the reset; a receiver keeps what precedes
// a reset readable. Both drop the rest when the one that should take it takes nothing for 30
// seconds: the sender then resets the stream with code 22, at which the receiver drops what it
// holds, as it does when the opener gives up (code 18). [Stream.Reset] waits for nothing.
//
// An opener may send data before the answer, within the first credit. It is lost if the stream is
// refused. A fin of the other side before its answer is an error.
//
// A stream that its opener has reset may count against the receiver's limit until the receiver's
// user has closed it, so an opener that stays within the limit may still be refused.
//
// # Datagrams
//
// A flow is a stream of the kind UDP. It carries datagram frames instead of data, which are not
// sequenced: they are never retained or sent again. A datagram of up to 16 KiB is one frame with
// the flags 0. A larger one, of at most 65,535 bytes, is several frames in a row: the flag 0x02
// means that more of the datagram follows, the flag 0x01 that the frame continues the one before.
// Such a frame holds at least one byte. A row that is interrupted, which the next frame without
// 0x01 shows, is dropped, and so is a datagram for a flow that does not exist. Data on a flow is an
// error, and so is a datagram on another stream.
//
// Datagrams have no credit. What does not fit into the bounded queue of either side is dropped: at
// the sender the oldest, and those that have waited for a second; at the receiver the newest.
// Otherwise they take turns with stream data.
//
// # Flow control
//
// Credit is an absolute offset in the stream's bytes, so that repeating it does no harm. A new
// stream starts with the first credit of the receiver's hello; the receiver raises it as its user
// reads, a quarter of the window at a time. The window doubles while a quarter of it is consumed in
// less than a round trip, up to 16 MiB, within the memory of the session. A peer that sends past
// its credit ends the session. A stream that nobody reads stalls alone. A stream whose user has
// closed it with data still to send discards what arrives and continues to give credit until its
// fin has left: the peer may have to write before it reads.
//
// # Memory
//
// What a session holds is counted in a budget that all sessions of a process share
// ([Config.Memory], package budget): what waits to be sent, for a meter or for the peer, what is
// retained, and what was received and not read. Each client has a share of it, which is smaller the
// more others hold. A session takes memory in chunks, so that the counters cost little. Past half
// of its client's share, streams to which the peer gives no credit queue one frame at most; past
// all of it, nothing more is read to be sent, and windows shrink as they are used. What was
// accepted is kept, and goes on as the peer takes it. A session of a client that still holds too
// much, since its peer uses up the credit that it had, ends with code 37, and frees what it holds
// at once.
//
// # Scheduling
//
// What is inflight is bounded by what the path holds: its delivery rate, which the acks show, times
// the round trip when its queues are empty (package pace). More would wait in a queue somewhere, in
// a proxy's buffers for one, where nothing can overtake it. So a receiver must acknowledge what it
// gets: 4 KiB or more after two milliseconds, 256 KiB at once, less after 25 milliseconds. The
// bound holds for streams with a backlog; one that just woke may exceed it, and datagrams do: who
// sends them has a congestion control of its own, and drops cost less than a wait.
//
// Frames of the session go first, then credit, then stream data by deficit round-robin: a stream
// that just woke is served before the streams with a backlog, once a round (the idea of fq_codel,
// RFC 8290, section 4.2). Streams with a backlog share to within one quantum, which is one frame:
// 32 KiB, less on a slow path, and up to four on a very fast one, unless somebody seems to wait for
// a stream of the session that sends little at a time.
package mux
