//go:build !linux

package rawsock

import "errors"

const direct = false

// Readv is for Linux.
func Readv(uintptr, [][]byte) (int, error) { return 0, errors.ErrUnsupported }

// Writev is for Linux.
func Writev(uintptr, [][]byte) (int, error) { return 0, errors.ErrUnsupported }
