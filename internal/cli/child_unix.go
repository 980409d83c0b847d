//go:build unix

package cli

import (
	"errors"
	"fmt"
	"syscall"
)

// childEnd is how a child has ended.
type childEnd struct {
	signal syscall.Signal // 0 for none
	status int
}

// unknownStatus is the status of a child about whose end somebody else has asked.
const unknownStatus = -1

func (e *childEnd) Error() string {
	switch {
	case e.signal != 0:
		return fmt.Sprintf("the new process has ended: %v", e.signal)
	case e.status == unknownStatus:
		return "the new process has ended"
	}
	return fmt.Sprintf("the new process has ended: exit status %d", e.status)
}

// failed reports whether the child has ended otherwise than one that was told to.
func (e *childEnd) failed() bool { return e.signal != 0 || e.status != 0 }

// reap waits until a child has ended. (Cmd.Wait would need a goroutine that can't be stopped.)
func reap(pid int) { waitFor(pid, 0) }

// waitFor returns how a child has ended, nil if the options have WNOHANG and it hasn't.
func waitFor(pid, options int) *childEnd {
	var status syscall.WaitStatus
	for {
		got, err := syscall.Wait4(pid, &status, options, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return &childEnd{status: unknownStatus}
		case got != pid:
			return nil
		case status.Signaled():
			return &childEnd{signal: status.Signal()}
		default:
			return &childEnd{status: status.ExitStatus()}
		}
	}
}
