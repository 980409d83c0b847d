package protocol

import (
	"time"

	"golang.org/x/sys/unix"
)

// TransportPath returns TCP's measurements of its path (TCP_INFO, tcp(7)): the smoothed and the
// minimum round trip, and the number of segments retransmitted so far. Behind a proxy the path is
// the one to the proxy. ok is false for a connection that isn't TCP.
func (c *Conn) TransportPath() (roundTrip, least time.Duration, resent uint64, ok bool) {
	tcp := tcpBelow(c.wire.conn)
	if tcp == nil {
		return 0, 0, 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, 0, 0, false
	}
	var info *unix.TCPInfo
	controlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if controlErr != nil || err != nil {
		return 0, 0, 0, false
	}
	const unit = time.Microsecond
	return time.Duration(info.Rtt) * unit, time.Duration(info.Min_rtt) * unit,
		uint64(info.Total_retrans), true
}
