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

	"culvert/internal/testnet"

	"go.uber.org/goleak"
)

// program is the path of the culvert that all tests run. Only TestMain sets it.
var program string

// buildTimeout bounds the build of the program with an empty build cache on busy cores.
const buildTimeout = 10 * time.Minute

func TestMain(m *testing.M) {
	if playRole() {
		return
	}
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
	testnet.TakeHangups()
	go spawner()
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("culvert/scripts/e2e.spawner"),
		goleak.Cleanup(func(status int) {
			os.RemoveAll(folder)
			os.Exit(status)
		}))
}

// build builds the program from this checkout. With the race detector it carries 80 MB/s on two
// cores, which is fast enough for all transfers in the tests.
func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	args := []string{"build", "-o", path}
	if testnet.RaceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "culvert")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}
