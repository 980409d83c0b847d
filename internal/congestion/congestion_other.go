//go:build !linux

package congestion

import (
	"net"
	"syscall"
)

func probe(string) error { return ErrUnsupported }

func set(*net.TCPConn, string) error { return ErrUnsupported }

func unpaceSocket(syscall.RawConn) {}

func get(*net.TCPConn) string { return "" }
