package cli

import (
	"context"
	"fmt"
	"os"
	"testing"

	"culvert/internal/testnet"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// leakStatus is the exit status of a culvert that leaves a goroutine behind. No command has it.
const leakStatus = 99

// programs are what the test binary is under other names: the tests run them as processes.
var programs = map[string]func(){"culvert": culvertMain}

func TestMain(m *testing.M) { testscript.Main(leakChecked{m}, programs) }

// culvertMain is culvert, and fails if it ends with goroutines left.
func culvertMain() {
	status := Main(context.Background(), os.Args, "v0.0.0-test")
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = leakStatus
	}
	os.Exit(status)
}

// leakChecked does for the tests' own goroutines what goleak.VerifyTestMain does, which exits the
// process.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	// Processes of the tests have no terminal, and the tests read the log in the form for people.
	os.Setenv("CULVERT_LOG_FORMAT", "console")
	testnet.TakeHangups()
	runtimeDir, err := os.MkdirTemp("", "culvert-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(runtimeDir)
	os.Setenv("XDG_RUNTIME_DIR", runtimeDir) // for control sockets
	status := l.m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	return status
}
