package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"culvert/internal/cli/flags"
	"culvert/internal/printable"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// checkPingTimeout bounds what a check does after it has connected.
const checkPingTimeout = 30 * time.Second

type checkOptions struct{ connect connectOptions }

func checkCommand() *flags.Command {
	o := &checkOptions{}
	return &flags.Command{
		Name:   "check",
		Usage:  "test and time each step to a working tunnel",
		Define: o.connect.define,
		Run:    o.run,
	}
}

func (o *checkOptions) run(ctx context.Context) error {
	c, err := o.connect.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.ConnectTimeout+checkPingTimeout)
	defer cancel()
	steps := &checkPrinter{w: os.Stdout, trust: c.trust, options: &o.connect.trust}
	c.config.OnProgress = steps.progress
	_, roundTrip, err := tunnel.Connect(ctx, c.config)
	switch {
	case err == nil:
		steps.line("round trip", roundTrip, "")
		fmt.Println("the tunnel works")
		return nil
	case errors.Is(err, mux.ErrNotCulvert):
		// The handshake is the part that is specified, and it was completed.
		fmt.Println("the handshake works, but this is not a culvert remote: it serves no tunnel")
		return nil
	}
	return connectFailure(err, c)
}

// checkPrinter prints a line a step.
type checkPrinter struct {
	w       io.Writer
	trust   *remoteTrust
	options *trustOptions
}

func (p *checkPrinter) progress(step tunnel.Progress) {
	var identity *protocol.IdentityError
	switch {
	case step.Err == nil:
		p.line(string(step.Step), step.Took, step.Detail)
		if step.Step == tunnel.StepHandshake {
			p.line("identity", 0, p.identity())
		}
	case errors.As(step.Err, &identity):
		p.line(string(step.Step), step.Took, "key "+identity.Key.String())
		p.line("identity", 0, "failed")
	case errors.Is(step.Err, mux.ErrNotCulvert):
		p.line(string(step.Step), step.Took, "not an answer of culvert")
	default:
		p.line(string(step.Step), step.Took, "failed")
	}
}

// identity describes what vouches for the remote, whose handshake is complete, and remembers a key
// that was pinned.
func (p *checkPrinter) identity() string {
	if p.trust.pins == nil {
		return p.trust.basis()
	}
	return p.trust.basis() + p.options.rememberPin(p.trust)
}

func (p *checkPrinter) line(name string, took time.Duration, detail string) {
	t := ""
	if took > 0 {
		t = fmt.Sprintf("%.1f ms", float64(took)/float64(time.Millisecond))
	}
	line := fmt.Sprintf("%-10s %10s  %s", name, t, printable.Line(detail))
	fmt.Fprintln(p.w, strings.TrimRight(line, " "))
}
