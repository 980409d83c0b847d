package cputime

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/stat, USER_HZ, which is 100 on all architectures that Go knows.
const tick = 10 * time.Millisecond

// idle reads the first line of /proc/stat (proc(5)): "cpu", and times since boot of which the
// fourth is that of idling and the fifth of idling until a disk has answered.
func idle() (idle, diskWait time.Duration) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return 0, 0
	}
	return ticks(fields[4]), ticks(fields[5])
}

func ticks(field string) time.Duration {
	n, _ := strconv.ParseInt(field, 10, 64)
	return time.Duration(n) * tick
}
