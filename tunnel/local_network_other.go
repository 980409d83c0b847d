//go:build !linux

package tunnel

import "context"

// notifyNetwork reports that there are no notices: the addresses are polled.
func notifyNetwork(context.Context, chan<- struct{}) bool { return false }
