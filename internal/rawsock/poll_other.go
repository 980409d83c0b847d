//go:build !linux

package rawsock

import "syscall"

// HasFailed is for systems that can be asked without taking the error from the read that comes to
// it.
func HasFailed(syscall.RawConn) bool { return false }

// HasHungUp is for such systems too.
func HasHungUp(syscall.RawConn) bool { return false }
