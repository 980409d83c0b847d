//go:build linux

package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// WaitGone waits until no process is left that has text in its arguments, which must be a text that
// only the caller's processes have. It kills those that are left after the timeout.
func WaitGone(text string, patience time.Duration) {
	deadline := time.Now().Add(patience)
	for left := startedWith(text); len(left) > 0; left = startedWith(text) {
		if time.Now().After(deadline) {
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
		time.Sleep(pollPause)
	}
}

// startedWith finds the processes with a text in their arguments.
func startedWith(text string) []int {
	var found []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, pid)
		}
	}
	return found
}
