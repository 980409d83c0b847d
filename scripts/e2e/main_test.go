//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// program is the culvert that all tests run. TestMain sets it, and nothing changes it later.
var program string

// buildTimeout bounds the build of the program, with an empty build cache and busy cores.
const buildTimeout = 10 * time.Minute

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "culvert-e2e-")
	if err == nil {
		program = filepath.Join(folder, "culvert")
		err = build(program)
	}
	if err != nil {
		os.RemoveAll(folder)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go spawner()
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("culvert/scripts/e2e.spawner"),
		goleak.Cleanup(func(status int) {
			os.RemoveAll(folder)
			os.Exit(status)
		}))
}

// build makes the program of this checkout. With the race detector it carries 80 MB/s on two cores,
// which is quick enough for all that the tests transfer.
func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "culvert")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}
