//go:build !linux

package systemd

import "time"

// systemd is on Linux only, and its library doesn't build everywhere else.

func send(string) error { return nil }

func watchdogTime() (time.Duration, error) { return 0, nil }

func monotonicTime() string { return "" }

// LogsStderr returns false: there is no journal.
func LogsStderr() bool { return false }
