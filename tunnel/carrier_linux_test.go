package tunnel

import (
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/mux/pace"
)

// The session finds these by type assertion, and would do without them in silence.
var (
	_ pace.Transport    = (*protocol.Conn)(nil)
	_ mux.UnsentLimiter = (*protocol.Conn)(nil)
)
