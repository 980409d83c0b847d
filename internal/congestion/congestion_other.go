//go:build !linux

package congestion

import "net"

func probe(string) error { return ErrUnsupported }

func set(*net.TCPConn, string) error { return ErrUnsupported }

func get(*net.TCPConn) string { return "" }
