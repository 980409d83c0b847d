//go:build !windows

package netfault

import "syscall"

// unusable are the errors of a socket on which no later call can succeed.
var unusable = [...]syscall.Errno{syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK}

// native is for systems whose sockets have other errors than package syscall.
var native map[syscall.Errno]syscall.Errno

// exhausted are the errors for a lack of descriptors or memory.
var exhausted = [...]syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
}
