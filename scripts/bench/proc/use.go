//go:build linux

package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// ticksPerSecond is the unit of CPU times in /proc: USER_HZ, 100 on every architecture that Go
// knows.
const ticksPerSecond = 100

// CPU returns the total CPU seconds that the family has used, including those of descendants that
// have exited and been waited for.
func (f Family) CPU() float64 {
	var ticks uint64
	for _, m := range f {
		if s, ok := readStat(m.pid); ok && s.started == m.started {
			ticks += s.ticks
		}
	}
	return float64(ticks) / ticksPerSecond
}

// Memory returns the total memory of the family in bytes: its proportional set size if the kernel
// reports it, so that shared pages count once, otherwise its resident set size.
func (f Family) Memory() float64 {
	var kilobytes uint64
	for _, m := range f {
		n, ok := memoryLine(m.pid, "smaps_rollup", "Pss:")
		if !ok {
			n, _ = memoryLine(m.pid, "status", "VmRSS:")
		}
		kilobytes += n
	}
	return float64(kilobytes) * 1024
}

// Resident returns the largest resident set of some processes, in bytes, and 0 for none.
func Resident(pids ...int) float64 {
	var most uint64
	for _, pid := range pids {
		kilobytes, _ := memoryLine(pid, "status", "VmRSS:")
		most = max(most, kilobytes)
	}
	return float64(most) * 1024
}

// memoryLine reads the number in kB from a line of a file about a process.
func memoryLine(pid int, file, key string) (uint64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if !ok {
			continue
		}
		if fields := bytes.Fields(rest); len(fields) > 0 {
			n, err := strconv.ParseUint(string(fields[0]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
