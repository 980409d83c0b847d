//go:build !linux

package tunnel

import "net"

// wasReset takes an end of file for one: a write that has failed is seen by itself.
func wasReset(net.Conn) bool { return false }

// awaitReset leaves it to the next write, or to keepalive, to notice a reset.
func awaitReset(net.Conn) bool { return false }

// boundReceiving leaves the buffers to the system.
func boundReceiving(net.Conn) {}

// setBacklog leaves it to the system how many connections wait in the kernel.
func setBacklog(net.Listener, int) {}
