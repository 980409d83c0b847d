package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/urfave/cli/v2"
)

// checkTimeout bounds a whole check.
const checkTimeout = time.Minute

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "take each step to a working tunnel and tell how it went",
		ArgsUsage: "REMOTE_URL",
		Flags:     remoteFlags(),
		Action:    runCheck,
	}
}

func runCheck(c *cli.Context) error {
	opts, err := loadLocalOptions(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, checkTimeout)
	defer cancel()
	steps := &checkPrinter{w: c.App.Writer, trust: opts.trust}
	opts.node.OnProgress = steps.progress
	_, roundTrip, err := tunnel.Connect(ctx, opts.node)
	switch {
	case err == nil:
		steps.line("round trip", roundTrip, "")
		fmt.Fprintln(c.App.Writer, "the tunnel works")
		return nil
	case errors.Is(err, mux.ErrNotCulvert):
		// The handshake is the part that is specified, and it was completed.
		fmt.Fprintln(c.App.Writer, "the handshake works, but this is no culvert remote: it serves no tunnel")
		return nil
	}
	return connectFailure(err, opts)
}

// checkPrinter prints a line a step.
type checkPrinter struct {
	w     io.Writer
	trust *remoteTrust
}

func (p *checkPrinter) progress(step tunnel.Progress) {
	var identity *protocol.IdentityError
	switch {
	case step.Err == nil:
		p.line(string(step.Step), step.Took, step.Detail)
		if step.Step == tunnel.StepHandshake {
			p.line("identity", 0, p.trust.says())
		}
	case errors.As(step.Err, &identity):
		p.line(string(step.Step), step.Took, "key "+identity.Key.String())
		p.line("identity", 0, "failed")
	case errors.Is(step.Err, mux.ErrNotCulvert):
		p.line(string(step.Step), step.Took, "no answer that culvert would give")
	default:
		p.line(string(step.Step), step.Took, "failed")
	}
}

func (p *checkPrinter) line(name string, took time.Duration, detail string) {
	t := ""
	if took > 0 {
		t = fmt.Sprintf("%.1f ms", float64(took)/float64(time.Millisecond))
	}
	fmt.Fprintln(p.w, strings.TrimRight(fmt.Sprintf("%-10s %10s  %s", name, t, detail), " "))
}
