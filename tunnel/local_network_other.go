//go:build !linux

package tunnel

import "context"

// watchNetwork is implemented for Linux only: elsewhere a Local relies on its timers.
func (l *Local) watchNetwork(context.Context) (stop func()) { return func() {} }
