//go:build !linux

package mux

// pollEvent would be an event that only Go's network poller finds.
type pollEvent struct{}

func (*pollEvent) wait()  {}
func (*pollEvent) close() {}
