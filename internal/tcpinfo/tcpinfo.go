// Package tcpinfo reads what the system knows of a TCP connection, and the settings that bound its
// buffers. Only Linux tells (tcp(7), TCP_INFO).
package tcpinfo

import (
	"net"
	"time"

	"culvert/internal/rawsock"
)

// Info is a snapshot of a connection. Sums are since its beginning. Its form in JSON is part of the
// protocol between the two ends of a tunnel: fields are added, never changed.
type Info struct {
	RoundTrip    time.Duration `json:"rtt"` // smoothed
	MinRoundTrip time.Duration `json:"min_rtt"`

	Segments    uint32 `json:"segments"`    // with data, sent
	Resent      uint32 `json:"resent"`      // of these, again
	Unnecessary uint32 `json:"unnecessary"` // of those, as the peer had them

	// How long there was something to send, and for how much of that the peer's receive window or
	// the send buffer of this end was full.
	Busy          time.Duration `json:"busy"`
	WindowLimited time.Duration `json:"window_limited"`
	BufferLimited time.Duration `json:"buffer_limited"`

	PeerWindow uint32 `json:"peer_window"` // bytes that the peer is ready to receive; 0: unknown

	// Sizes of the buffers, and what they may grow to: the third values of net.ipv4.tcp_rmem and
	// net.ipv4.tcp_wmem. Bytes; 0 if they are not known.
	ReceiveBuffer    int   `json:"receive_buffer"`
	SendBuffer       int   `json:"send_buffer"`
	MaxReceiveBuffer int64 `json:"max_receive_buffer"`
	MaxSendBuffer    int64 `json:"max_send_buffer"`
}

// Of returns what is known of a connection, nil if it is neither one of TCP nor has one as its
// NetConn, or if the system doesn't tell.
func Of(conn net.Conn) *Info {
	tcp := rawsock.TCPOf(conn)
	if tcp == nil {
		return nil
	}
	return read(tcp)
}
