//go:build !windows

package certs

import "os"

// lockBeside takes no lock: that of the file itself does.
func lockBeside(string) (unlock func(), err error) { return func() {}, nil }

func rename(from, to string) error { return os.Rename(from, to) }
