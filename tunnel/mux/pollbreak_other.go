//go:build !linux

package mux

// pollEvent is for systems on which nothing needs to be done, or nothing is known that helps.
type pollEvent struct{}

func (*pollEvent) wait()  {}
func (*pollEvent) close() {}
