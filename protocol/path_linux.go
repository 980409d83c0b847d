package protocol

import (
	"time"

	"culvert/internal/rawsock"

	"golang.org/x/sys/unix"
)

// TransportPath returns what TCP knows of its path (TCP_INFO, tcp(7)): the smoothed and the minimum
// round trip, the number of segments retransmitted so far, and how many bytes may be in flight,
// which is its congestion window, or the peer's receive window if that is smaller. Behind a proxy
// the path is the one to the proxy. ok is false for a connection that isn't TCP, and where the
// system leaves out some of that, as Linux before 4.6 and gVisor do. A send buffer in which TCP has
// waited for room since the last call is enlarged, where the system permits that.
func (c *Conn) TransportPath() (
	roundTrip, least time.Duration, resent, window uint64, ok bool,
) {
	info := c.tcpInfo()
	if info == nil {
		return 0, 0, 0, 0, false
	}
	c.sendBuffer.look(rawsock.TCPOf(c.wire.conn), info.Sndbuf_limited)
	if info.Min_rtt == 0 {
		return 0, 0, 0, 0, false
	}
	window = uint64(info.Snd_cwnd) * uint64(info.Snd_mss)
	if info.Snd_wnd > 0 { // since Linux 5.4
		window = min(window, uint64(info.Snd_wnd))
	}
	const unit = time.Microsecond
	return time.Duration(info.Rtt) * unit, time.Duration(info.Min_rtt) * unit,
		uint64(info.Total_retrans), window, true
}

// TransportGap returns how many bytes have arrived that the peer's TCP can't deliver yet, because
// something before them was lost: what it has acknowledged selectively. It is 0 for a connection
// that isn't TCP.
func (c *Conn) TransportGap() (behind uint64) {
	info := c.tcpInfo()
	if info == nil {
		return 0
	}
	return uint64(info.Sacked) * uint64(info.Snd_mss)
}

// TransportSent returns how many bytes the peer's TCP has acknowledged so far, how many that were
// written it has not, and when its last acknowledgement came. Behind a proxy the peer is the proxy.
// ok is false for a connection that isn't TCP, or where the system doesn't tell.
func (c *Conn) TransportSent() (acked, pending uint64, last time.Time, ok bool) {
	tcp := rawsock.TCPOf(c.wire.conn)
	if tcp == nil {
		return 0, 0, time.Time{}, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, 0, time.Time{}, false
	}
	_ = raw.Control(func(fd uintptr) {
		info, infoErr := rawsock.TCPInfo(fd)
		// TCP_INFO has this number in parts, which old kernels leave 0; see package sendqueue.
		queued, queueErr := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if ok = infoErr == nil && queueErr == nil && tellsArrival(info); ok {
			acked, pending = info.Bytes_acked, uint64(queued)
			last = time.Now().Add(-time.Duration(info.Last_ack_recv) * time.Millisecond)
		}
	})
	return acked, pending, last, ok
}

// tcpInfo returns TCP_INFO of the connection, nil if it isn't TCP.
func (c *Conn) tcpInfo() (info *unix.TCPInfo) {
	tcp := rawsock.TCPOf(c.wire.conn)
	if tcp == nil {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	controlErr := raw.Control(func(fd uintptr) {
		info, err = rawsock.TCPInfo(fd)
	})
	if controlErr != nil || err != nil {
		return nil
	}
	return info
}
