package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"culvert/internal/cli/flags"
)

// commit and commitTime are the full hash of the commit that was built, with "-dirty" if files were
// changed, and its time in RFC 3339. The linker sets them; otherwise Go's own stamp is used.
var commit, commitTime string

func versionCommand(version string) *flags.Command {
	return &flags.Command{
		Name:  "version",
		Usage: "print the version, the commit and how it was built",
		Examples: []string{
			"culvert version",
			"culvert --version",
		},
		Run: func(context.Context) error {
			info, _ := debug.ReadBuildInfo() // nil in a program built without modules
			_, err := os.Stdout.WriteString(describeBuild(version, info))
			return err
		},
	}
}

// describeBuild returns a line for each thing that a bug report needs. The information is nil if
// the program has none.
func describeBuild(version string, info *debug.BuildInfo) string {
	stamp := map[string]string{}
	var settings []string
	if info != nil {
		for _, s := range info.Settings {
			stamp[s.Key] = s.Value
			if isBuildSetting(s.Key) {
				settings = append(settings, s.Key+"="+s.Value)
			}
		}
	}
	hash, when := cmp.Or(commit, stamp["vcs.revision"]), cmp.Or(commitTime, stamp["vcs.time"])
	if commit == "" && stamp["vcs.modified"] == "true" {
		hash += "-dirty"
	}
	lines := []string{"culvert " + version}
	if hash != "" {
		lines = append(lines, strings.TrimSpace("commit   "+hash+" "+when))
	}
	lines = append(lines, fmt.Sprintf("go       %s %s/%s", runtime.Version(), runtime.GOOS,
		runtime.GOARCH))
	if len(settings) > 0 {
		lines = append(lines, "built    "+strings.Join(settings, " "))
	}
	return strings.Join(lines, "\n") + "\n"
}

// isBuildSetting reports whether a key of the build's information is about how the program was
// built: flags of go build, and variables such as CGO_ENABLED and GOAMD64. The commit, the system
// and the linker's flags, which only repeat the version, are not.
func isBuildSetting(key string) bool {
	if slices.Contains([]string{"GOOS", "GOARCH", "-ldflags"}, key) {
		return false
	}
	return strings.HasPrefix(key, "-") || strings.HasPrefix(key, "GO") ||
		strings.HasPrefix(key, "CGO_") || strings.HasSuffix(key, "FIPS140")
}
