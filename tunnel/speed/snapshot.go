package speed

import (
	"runtime"
	"time"

	"culvert/internal/cputime"
	"culvert/internal/tcpinfo"
)

// The services of a remote that make a test.
const (
	Control  = "speed"
	Download = "speed/down"
	Upload   = "speed/up"
)

// The requests on the control stream.
const (
	opPing = "ping"
	opLook = "look"
)

// request is a line that the client writes.
type request struct {
	Op string `json:"op"`
}

// Snapshot is what an end knows at a time. Sums are since some time in the past.
type Snapshot struct {
	At       time.Duration `json:"at"`       // by the clock of this end
	Sent     int64         `json:"sent"`     // bytes of the test
	Received int64         `json:"received"` // the same

	Used  time.Duration `json:"cpu"`  // processor time of the process
	Idle  time.Duration `json:"idle"` // of all processors of the machine; 0 if it is not known
	Cores int           `json:"cores"`

	TCP *tcpinfo.Info `json:"tcp,omitempty"` // of the connection; nil if it is not known

	// What the remote lets the client send and receive, in bytes a second; 0 for no bound.
	Up   int64 `json:"up,omitempty"`
	Down int64 `json:"down,omitempty"`
}

// newSnapshot takes a snapshot of the process and of a connection.
func newSnapshot(began time.Time, tcp *tcpinfo.Info, sent, received int64) Snapshot {
	cpu := cputime.Read()
	return Snapshot{
		At: time.Since(began), Sent: sent, Received: received,
		Used: cpu.Used, Idle: cpu.Idle + cpu.DiskWait, Cores: runtime.NumCPU(), TCP: tcp,
	}
}
