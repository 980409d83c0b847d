package filewatch

import (
	"os"
	"runtime"
)

// changeGroup gives a file another group, or another mode where this process can't.
func changeGroup(_, path string) error {
	groups, err := os.Getgroups()
	if os.Geteuid() == 0 {
		groups = append(groups, 65534)
	}
	for _, group := range groups {
		if group != os.Getegid() {
			return os.Chown(path, -1, group)
		}
	}
	if runtime.GOOS == "windows" {
		return os.Chmod(path, 0o400)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o640)
}
