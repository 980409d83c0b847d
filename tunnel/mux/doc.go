// Package mux carries many streams over one carrier of records at a time.
//
// A [Session] joins two peers. Each may open streams to the other; a [Stream] is a [net.Conn] with CloseWrite.
// What moves the bytes is a [Carrier], which keeps records whole, in order and authentic: in culvert a secured
// WebSocket, in tests a pair of channels. The package dials nothing and knows nothing of what a target means.
//
// # Data flow
//
//	Stream.Write → send queue → scheduler → frames → record → Carrier → record → frames → receive queue → Stream.Read
//
// A session runs two goroutines. The reader parses records and files each frame; it never waits for a stream or for
// the writer. The writer packs what is due into records; it is the only one that waits for the carrier. All state
// between them is under the session's one mutex. [Session.Close] stops both and waits for them. Neither may keep the
// processor for long without a look at which sockets are ready (pollbreak.go): that is what quiet streams wait for.
//
// Bytes stand in pooled blocks. [Stream.ReadFrom] reads from a socket, once that is readable, into blocks with room before
// the data, so that a frame's header goes there and the block becomes the record, which is kept until it is acknowledged. A
// record that arrives is opened into a block, and a large piece of data stays there until [Stream.Deliver] has written it to
// a socket. A stream on which nothing happens holds no block, and no goroutine but the one that waits for its socket.
//
// # Frames
//
// A record is a sequence of frames. A frame has a header of 8 bytes, big-endian, then its payload:
//
//	offset 0  kind           1 byte
//	offset 1  payload length 3 bytes
//	offset 4  stream id      4 bytes, 0 for frames of the session itself
//
// A known kind with a payload of another length than its own ends the session, as does every other breach of the
// format; the peer is told with a close frame.
//
// Two bits of the kind tell a receiver what to do with a kind that it does not know, so the format can grow:
// 0x80 marks a frame that may be skipped, 0x40 one that is sequenced (below). An unknown kind that may not be skipped
// ends the session.
//
//	kind       value  payload
//	hello      0x01   magic "culvert" (7), version (1), role (1), zero (3), largest record (4), first credit (4),
//	                  most streams (4), send position (8), receive position (8), session id (16),
//	                  proof (32), resume window in seconds (4); a receiver ignores what follows
//	ping       0x02   token (8)
//	pong       0x03   the ping's token (8)
//	ack        0x04   receive position (8)
//	close      0x05   code (2), text (UTF-8)
//	draining   0x46   none: the sender takes no new streams
//	open       0x50   stream kind (1), target length (2), target, first bytes of data
//	opened     0x51   none
//	refused    0x52   code (2), text (UTF-8)
//	data       0x53   bytes of the stream, at least one
//	credit     0x54   offset (8): the receiver of this frame may send the stream's bytes before this offset
//	fin        0x55   none: the sender's half of the stream ends here
//	reset      0x56   code (2): both halves end here, cut short
//	datagram   0xa0   flags (1), bytes of the datagram
//
// A ping is answered once, and of pings that wait for their answer only the newest; tokens ascend from 1. Text is at most
// 256 bytes, a target 512.
//
// Each carrier begins with one hello from the client and one from the server, in this order: the reference handshake
// asks that the server speaks second.
//
// # Positions
//
// Sequenced frames form one reliable, ordered sequence in each direction. A position is the number of bytes, headers
// included, of the sequenced frames up to a point; it lies between two frames. A carrier keeps its records in order, so
// no frame needs a number: a hello says how far its sender's sequence has come (send position) and how far it has
// received (receive position), both sides count from there, and acks report progress. In a record, the sequenced frames
// stand together.
//
// # Resumption
//
// A session whose carriers export secrets (see [Exporter]) outlives its carrier. The server's first hello names it and says
// for how long the session is kept without a carrier. Both ends derive a key from the first carrier's exporter and the name,
// and retain what they send until it is acknowledged. A client that lost its carrier brings another ([Session.Resume], and
// [Host.Accept] at the server):
//
//	client → server  hello with the session's id, a proof, and the client's positions
//	server → client  hello with the same id, the server's proof, and its positions
//	both             go on sending at the other's receive position
//
// A proof is HMAC-SHA256 under the session's key over the sender's role and a value that only the two ends of the new
// carrier can export. So it is worth nothing on another carrier, and an observer, another client, or somebody who knows the
// id learns nothing and changes nothing. The server asks besides that the client's authenticated identity is the first
// carrier's. A server that does not have the session, or does not let the client have it, answers as to a new client: with
// another id; the client's old session is then dead of [ErrSessionUnknown], and its streams are cut short. The newest
// carrier of a session wins: the one before is cut off before the hello that settles the receive position.
//
// What is retained is bounded a session and a process ([Config.MaxRetained], [Budget]), and so is the number of sessions
// without a carrier ([HostConfig]). Frames that are not sequenced (pings, acks, datagrams) are lost with their carrier.
//
// A carrier is given up when the peer owes a sign of life (it has not acknowledged what was sent,
// or not answered a ping) and gives none for [Config.Patience] or four round trips. Any byte that
// arrives is one, so a slow link that is merely full raises no alarm. A side that only receives
// waits for nothing of the kind, so it pings a second after data has ceased to come. When the path
// has probably changed, [Session.Probe] asks for the sign of life at once and waits for half a
// second or four round trips; [Session.DropCarrier] is for a path that is known to be gone.
//
// # Streams
//
// The client of a session opens streams with odd ids, the server with even ones, ascending and never used twice. Frames
// for a stream that has ended are dropped; frames for one that was never opened are an error. Each half of a stream
// ends with fin (a clean end of file) or by a reset, which the other side sees as an error that wraps ECONNRESET, never
// as an end of file. A reset that follows the sender's fin only says that the sender reads no more.
//
// An opener may send data before the answer, within the first credit. What it has sent is lost when it is refused.
//
// A receiver may count a stream that its opener has reset against its limit of streams until it has let go of it itself,
// so an opener that stays within the limit may still be refused.
//
// # Datagrams
//
// A stream of the kind UDP carries datagrams instead of data; each is whole or lost. Its frames are not sequenced: they are
// never kept or sent again. One of up to 16 KiB is one frame with the flags 0. A larger one, of at most 65,535 bytes, is a
// row of frames: the flag 0x02 says that more of the datagram follows, the flag 0x01 that its frame goes on with the one
// before. Such a frame holds at least one byte. A row that is broken off, which the next frame without 0x01 shows, is
// dropped, and so is a datagram for a stream that is not there. Data on such a stream is an error, and so is a datagram on
// another.
//
// Datagrams have no credit. What does not fit into the bounded queue of either side is dropped: at the sender the oldest,
// and those that have waited for a second; at the receiver the newest. Otherwise they take their turns with stream data.
//
// # Flow control
//
// Credit is an absolute offset in the stream's bytes, so that repeating it does no harm. A new stream starts with the
// first credit of the receiver's hello; the receiver raises it as its user reads, a quarter of the window at a time. The
// window doubles while a quarter of it is taken in less than a round trip, to 16 MiB, within the memory of the session. A
// peer that sends past its credit ends the session. A stream that nobody reads stalls alone. One whose user has closed it with data still to send drops
// what arrives and goes on giving credit until its fin has left: the peer may have to write before it reads.
//
// # Scheduling
//
// What is inflight is bounded by what the path holds: its delivery rate, which the acks show, times
// the round trip when its queues are empty (package pace). More would wait in a queue somewhere, in
// a proxy's buffers for one, where nothing can overtake it. So a receiver must acknowledge what it
// gets: 4 KiB or more after two milliseconds, 256 KiB at once, less after 25 milliseconds. The bound
// holds for streams with a backlog; one that just woke may exceed it.
//
// Frames of the session go first, then credit, then stream data by deficit round-robin: a stream that just woke is
// served before the streams with a backlog, once a round (the idea of fq_codel, RFC 8290, section 4.2). Streams with a
// backlog share to within one quantum, which is one frame: 32 KiB, and less on a slow path.
package mux
