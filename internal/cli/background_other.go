//go:build !unix

package cli

import (
	"errors"

	"culvert/internal/cli/exit"
)

// readiness is what there is only on Unix: processes can't leave a console while they run.
type readiness struct{}

func inheritReadiness() readiness { return readiness{} }

func (readiness) wanted() bool { return false }

func (readiness) detach() error { return nil }

func (o *backgroundOptions) inForeground() bool { return o.background }

func startInBackground() error {
	return exit.Usagef("start it with Start-Process, or as a service, with a program that wraps it",
		"-f is not supported on this system")
}

// pidFile is likewise not supported: see openPIDFile.
type pidFile struct{}

func openPIDFile(string, int) (*pidFile, error) {
	return nil, errors.New("not supported on this system")
}

func (*pidFile) remove() {}
