package cli

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is the kernel's siginfo_t of a child that has ended.
type childInfo struct {
	_      [3]int32   // unix.Siginfo has them, in the order of the architecture
	_      [0]uintptr // aligns what follows
	_      [2]int32
	status int32 // or the signal
}

// endOf returns how a child has ended, nil if it hasn't. The child stays a zombie: once this
// process ends, the service manager inherits it, and learns how its main process has ended.
func endOf(pid int) *childEnd {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return &childEnd{status: unknownStatus}
		case info.Signo == 0:
			return nil
		}
		status := int((*childInfo)(unsafe.Pointer(&info)).status)
		if info.Code != exitedCode {
			return &childEnd{signal: syscall.Signal(status)}
		}
		return &childEnd{status: status}
	}
}

// exitedCode is CLD_EXITED.
const exitedCode = 1
