package systemd

import (
	"os"
	"path/filepath"
	"strings"
)

// StateFolder returns the first folder that StateDirectory= of the unit names, "" if there is none.
func StateFolder() string { return firstFolder(os.Getenv("STATE_DIRECTORY")) }

// RuntimeFolder is StateFolder for RuntimeDirectory=.
func RuntimeFolder() string { return firstFolder(os.Getenv("RUNTIME_DIRECTORY")) }

// firstFolder returns the first path of a list. All are absolute, so that a colon without a slash
// behind it is part of a name, such as that of an instance.
func firstFolder(list string) string {
	first, _, _ := strings.Cut(list, ":/")
	if !filepath.IsAbs(first) {
		return ""
	}
	return first
}
