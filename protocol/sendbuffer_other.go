//go:build !linux

package protocol

// sendBuffer is for Linux only.
type sendBuffer struct{}
