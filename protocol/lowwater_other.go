//go:build !linux

package protocol

import (
	"net"
	"time"
)

// lowWater is for Linux only.
type lowWater struct{}

func newLowWater(net.Conn) *lowWater { return nil }

func (*lowWater) mark(int) {}

func (*lowWater) marked() bool { return false }

func (*Conn) lastArrival() time.Time { return time.Time{} }
