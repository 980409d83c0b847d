package cli

import (
	"context"
	"os"
	"runtime/debug"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
)

// gcPercent is by how much the heap may grow between two collections, in per cent of what is in
// use. Data is in pooled buffers and makes no garbage, so that collections are rare and cheap; half
// of Go's default saves memory with many streams.
const gcPercent = 50

// Main runs the command line args, args[0] being the program's name, and returns the exit status.
func Main(ctx context.Context, args []string, version string) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := newApp(version).Run(ctx, args); err != nil {
		return exit.Report(os.Stderr, err)
	}
	return exit.OK
}

func newApp(version string) *flags.App {
	return flags.NewApp("culvert",
		"carry a browser, single ports and scripts through one secured WebSocket", version,
		remoteCommand(),
		localCommand(),
		runCommand(),
		checkCommand(),
		keygenCommand(),
		certCommand(),
		demoCommand(),
		flags.Completion(),
	)
}
