//go:build linux

package proc

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Listening waits until somebody listens on a TCP port, on IPv4, in the process's network
// namespace.
func (p *Process) Listening(ctx context.Context, port int) error {
	for {
		// proc_pid_net(5): a line is slot, local address, remote address, state, …; 0A is TCP_LISTEN.
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", p.PID()))
		if err != nil {
			return p.Err()
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1],
				fmt.Sprintf(":%04X", port)) {
				return nil
			}
		}
		select {
		case <-time.After(pollPause):
		case <-p.Exited:
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s: does not listen: %w", p.name, ctx.Err())
		}
	}
}
