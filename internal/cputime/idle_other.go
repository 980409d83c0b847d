//go:build !linux

package cputime

import "time"

func idle() (idle, diskWait time.Duration) { return 0, 0 }
