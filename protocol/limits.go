package protocol

import (
	"time"

	"culvert/certs"
)

const (
	// DefaultHandshakeTimeout bounds the whole handshake, from the first message to the last. The
	// reference allows 2 s, too short for a slow link: a round trip via satellite takes up to 1.5
	// s, and a packet that is lost twice costs TCP over 10 s. An attacker can hold a connection
	// without a handshake for no longer.
	DefaultHandshakeTimeout = 30 * time.Second

	// DefaultMaxMessage is the largest payload of a record, in bytes, where the configuration has
	// none. It is the minimum that interoperates with programs that send messages of 1 MiB.
	DefaultMaxMessage = 1 << 20

	// DefaultReplayCapacity is the minimum number of (client key, nonce) pairs that a ReplayCache
	// remembers; it holds up to twice as many, in at most about 9 MiB. At 100 handshakes a second
	// that is over 20 minutes.
	DefaultReplayCapacity = 1 << 17
)

// Sizes of the handshake's parts, in bytes. The key sizes are those of NaCl box and secretbox.
const (
	keySize   = 32
	nonceSize = 8 // of a handshake nonce; repeated three times it is a NaCl nonce

	// secretsSize is the fixed beginning of an opened box: the sender's nonce and share key.
	secretsSize = nonceSize + keySize

	// maxTail bounds what may follow secretsSize besides a certificate:
	// {"cert":,"requireCert":false} and the keys that a later version or an extension adds, such as
	// a KEM ciphertext of 1.1 KiB as a JSON array.
	maxTail = 8 << 10

	// maxClientHello bounds a ClientHello, in bytes of JSON. The specification's fields need about
	// 230; unknown keys are ignored, and one of those may hold a KEM public key of 1.2 KiB as a
	// JSON array. It is the only message accepted from an unauthenticated peer, so the limit is
	// tight.
	maxClientHello = 16 << 10

	// maxClearPart bounds what a ServerHello or ClientReady holds besides its box: the key names,
	// the public key, and unknown keys.
	maxClearPart = 4 << 10

	// jsonByte is the most that one byte takes in a JSON array of integers: three digits and a
	// comma.
	jsonByte = 4
)

// maxBox returns the largest box of a handshake message in the given version, in bytes. Only
// version 2 carries a certificate.
func maxBox(version int) int {
	n := secretsSize + maxTail + boxOverhead
	if version == Version2 {
		n += certs.MaxCertificateSize
	}
	return n
}

// maxSealedMessage returns the largest ServerHello or ClientReady in the given version, in bytes of
// JSON: 53 KiB or less in version 1, 309 KiB or less in version 2.
func maxSealedMessage(version int) int {
	return maxClearPart + jsonByte*maxBox(version)
}

const (
	// closeTimeout bounds how long ending a connection takes: sending the close frame, and then, as
	// long again, waiting for the peer to close its side. It is a few round trips of the longest
	// path.
	closeTimeout = time.Second

	// pongTimeout bounds the writing of a pong. A full queue on a slow link may take seconds, and a
	// pong that times out ends the connection.
	pongTimeout = 5 * time.Second

	// maxCloseReason is the room for text in a WebSocket close frame: 125 bytes (RFC 6455, section
	// 5.5) without the code.
	maxCloseReason = 123

	// usualRecord is the largest record, in bytes, for which the buffers are made: 32 KiB of data
	// with room for headers and small frames of the layer above. Larger ones work, at the cost of
	// allocations.
	usualRecord = 40 << 10

	// What waits in a socket takes part of the window that the kernel gives the peer, which is
	// about half of the socket's buffer. Where it is small, as in the beginning, that costs speed: 4
	// % of an upload of 200 MB at 100 ms, 1 Gbit/s from a cold start, and 11 % with a largest buffer
	// of 256 KiB at 40 ms. So a mark is at most a lowWaterShare of the buffer, whose size is looked
	// up each lowWaterCheck.
	lowWaterShare = 64
	lowWaterCheck = 100 * time.Millisecond

	// sendBufferFactor is how many times as large as the system makes it by itself a socket's send
	// buffer may become: what Linux allows by default since 6.18.
	sendBufferFactor = 2

	// minReadBuffer is the initial size of a connection's read buffer, in bytes: enough for an idle
	// connection.
	minReadBuffer = 4 << 10

	// bulkReadBuffer is what the read buffer grows to while reads fill it, in bytes: room for the
	// four records of 32 KiB of data that the other end writes with one system call. More saves
	// little, and a connection that was busy keeps this buffer for a while. Only a larger frame
	// makes it grow further. A message in several frames, which only other implementations send,
	// takes a second buffer of the message's size.
	bulkReadBuffer = 4 * (34 << 10)

	// readBufferKeep is how long after a large read a connection keeps its read buffer, which it
	// then lets go at the next wait for a record: growing it again costs more than a read.
	readBufferKeep = 10 * time.Second

	// batchSize is the size in bytes of the buffers from which records are written: four of the
	// usual size are written with one system call. A connection holds one only while it is writing.
	batchSize = 4 * (maxFrameHeader + usualRecord)

	// upgradeBufferSize is gorilla's write buffer in bytes. It is not used after the upgrade.
	upgradeBufferSize = 256

	// headBufferSize is gorilla's read buffer in bytes. A client reads the head of the HTTP
	// response through it; a server doesn't use it.
	headBufferSize = 512

	// refusalTimeout bounds how long a client reads the body of a response that refuses the
	// upgrade.
	refusalTimeout = time.Second

	// maxStatusLine bounds the first line of that response, in bytes. A usual one has 40.
	maxStatusLine = 4 << 10

	// maxResponseHead bounds the head of the HTTP response that a client reads, in bytes. It is
	// net/http's limit for requests, and more than load balancers with many cookies send. The
	// sender is not authenticated yet.
	maxResponseHead = 1 << 20

	// arrivalResolution is how long before it was read a frame may have arrived, going by what the
	// system tells, which counts in its own ticks.
	arrivalResolution = 20 * time.Millisecond
)
