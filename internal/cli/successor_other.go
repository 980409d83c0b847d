//go:build !unix

package cli

import (
	"context"

	"culvert/internal/cli/exit"
	"culvert/internal/status/control"

	"github.com/rs/zerolog"
)

// successor is what there is only on Unix: other systems don't pass listeners between processes.
type successor struct{}

func newSuccessor(*giver, *backgroundOptions, zerolog.Logger) *successor { return nil }

func (*successor) start(context.Context) error {
	return &control.Error{
		What: "this system can't pass listeners to another process", Hint: "stop it, and start it",
		Status: exit.Usage,
	}
}
