package cli

import (
	"os"
	"runtime"
)

// shareProcessors makes the process use half of the processors at once. One end of a tunnel mostly
// moves bytes between sockets in short steps that wake each other; with more processors, what it
// gains by doing two steps at once goes into waking the other processor and searching for work
// there. With two processors and four processes for a transfer on one machine, this saves a fifth
// of the CPU time per gigabyte, and throughput rises. GOMAXPROCS in the environment has precedence.
func shareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS((runtime.GOMAXPROCS(0) + 1) / 2)
	}
}
