package cli

import (
	"bytes"
	"os"
	"strconv"
)

// userHZ is the unit of times in /proc/stat: 100 a second on every architecture that Go knows.
const userHZ = 100

// idleSeconds returns for how long the machine's processors were idle since it was started, all
// together: the fourth number of the first line of /proc/stat (proc_stat(5)). Where it can't be
// read, they count as idle.
func idleSeconds() float64 {
	text, err := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if fields := bytes.Fields(line); err == nil && len(fields) > 4 {
		if ticks, err := strconv.ParseUint(string(fields[4]), 10, 64); err == nil {
			return float64(ticks) / userHZ
		}
	}
	return allIdle()
}
