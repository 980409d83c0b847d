//go:build !windows

package cli

// consoleCloses returns nil: elsewhere a terminal that closes sends a SIGHUP.
func consoleCloses() <-chan struct{} { return nil }
