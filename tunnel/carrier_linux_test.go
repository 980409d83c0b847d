package tunnel

import (
	"net"
	"time"

	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/mux/pace"
)

// The session finds these by type assertion, and would do without them in silence. Most are of
// every platform.
var (
	_ mux.Exporter      = (*protocol.Conn)(nil)
	_ mux.RecordAwaiter = (*protocol.Conn)(nil)
	_ mux.UnsentLimiter = (*protocol.Conn)(nil)
	_ pace.Transport    = (*protocol.Conn)(nil)
	_ mux.EarlyCloser   = busyConn{}

	_ interface{ LastRead() time.Time } = (*protocol.Conn)(nil)
	_ interface{ NetConn() net.Conn }   = (*protocol.Conn)(nil)
	_ interface {
		TransportSent() (acked, pending uint64, last time.Time, ok bool)
	} = (*protocol.Conn)(nil)
)
