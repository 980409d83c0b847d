package cli

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"culvert/internal/cli/flags"
	"culvert/internal/status/table"
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
	out := openOutputs()
	return out.finish(newApp(version, out).Run(ctx, args))
}

// App returns the program, for what documents it.
func App(version string) *flags.App { return newApp(version, nil) }

func newApp(version string, out *outputs) *flags.App {
	if out != nil {
		out.version = version
	}
	app := flags.NewApp("culvert",
		"carry a browser, single ports and scripts through one secured WebSocket", version,
		remoteCommand(out),
		localCommand(out),
		runCommand(out),
		checkCommand(out),
		speedCommand(out),
		hostsCommand(),
		keygenCommand(),
		authorizeCommand(),
		certCommand(),
		demoCommand(out),
		statusCommand(),
		stopCommand(),
		reloadCommand(),
		restartCommand(),
		forwardCommand(),
		versionCommand(version),
		flags.Completion(),
	)
	app.Examples = []string{
		"culvert remote --listen 8080",
		"culvert local -D 1080 wss://exit.example.org/",
	}
	app.Groups = helpGroups
	app.ConfigFiles = configFiles(runtime.GOOS)
	app.Width = func() int { return table.Width(os.Stdout) }
	return app
}

// helpGroups is the order of the groups of flags in the help.
var helpGroups = []string{
	"forwards", "listening", "admission", "targets", "identity", "connection", "session",
	"share of one client", "limits", "background", "control", "status", "output", "reload", "settings",
}

// configFiles returns the configuration files of which the first that exists is read: the user's
// and the system's. Windows has none of the system: every user can create files in %ProgramData%,
// which an administrator would then read.
func configFiles(goos string) []string {
	var files []string
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "culvert", "config.toml"))
	}
	if goos != "windows" {
		files = append(files, "/etc/culvert/config.toml")
	}
	return files
}
