package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/printable"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// checkPingTimeout bounds what a check does after it has connected.
const checkPingTimeout = 30 * time.Second

type checkOptions struct {
	connect connectOptions
	target  string // that the remote has to reach, or ""
	json    bool
}

func checkCommand(out *outputs) *flags.Command {
	o := &checkOptions{}
	o.connect.log.out = out
	return &flags.Command{
		Name:  "check",
		Usage: "test and time each step to a working tunnel",
		Examples: []string{
			"culvert check wss://exit.example.org/",
			"culvert check --target intranet.example:80 work",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *checkOptions) define(s *flags.Set) {
	o.connect.defineSeveral(s)
	s.Group("connection")
	s.String(&o.target, "target", "",
		"also test that the remote reaches `HOST:PORT` or unix:/PATH through the tunnel").Common()
	s.Group("output")
	s.Bool(&o.json, "json", "print the result as an object in JSON, on a line for each remote")
}

func (o *checkOptions) run(ctx context.Context) error {
	if o.target != "" {
		if err := checkTarget(o.target); err != nil {
			return &flags.ValueError{
				Flag: "target", Value: o.target, Why: err.Error(),
				Form: "it is HOST:PORT or unix:/PATH", Example: "localhost:22",
			}
		}
	}
	c, err := o.connect.loadQuiet()
	if err != nil {
		return err
	}
	var first error
	out := &resultWriter{w: os.Stdout}
	for i, r := range c.remotes {
		if len(c.remotes) > 1 && !o.json {
			fmt.Fprintln(out, r.address)
		}
		err := o.checkOne(ctx, c.to(i), out)
		if err != nil && len(c.remotes) > 1 { // what failed follows its steps
			err = exit.Status(exit.Report(os.Stderr, err))
		}
		first = cmp.Or(first, err)
	}
	return cmp.Or(first, cannotWrite(out.err))
}

// checkOne checks the remote that the connection is to.
func (o *checkOptions) checkOne(ctx context.Context, c *connection, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.ConnectTimeout+checkPingTimeout)
	defer cancel()
	p := &checkPrinter{
		w: out, trust: c.trust, options: &o.connect.trust, json: o.json,
		report: checkReport{Remote: c.address.String(), Steps: []checkStep{}},
	}
	c.config.OnProgress = p.progress
	err := o.check(ctx, c, p)
	p.finish(err)
	return err
}

// check takes the steps.
func (o *checkOptions) check(ctx context.Context, c *connection, p *checkPrinter) error {
	var roundTrip, reached time.Duration
	var err error
	if o.target == "" {
		_, roundTrip, err = tunnel.Connect(ctx, c.alone())
	} else {
		roundTrip, reached, err = tunnel.ConnectTo(ctx, c.alone(), o.target)
	}
	beyond, isTarget := errors.AsType[*tunnel.TargetError](err)
	if err == nil || isTarget {
		p.step("round trip", roundTrip, "", true)
	}
	switch {
	case isTarget:
		p.step("target", 0, "failed", false)
		return exit.Fail(exit.Failed, "the tunnel works, but the remote doesn't reach the target", beyond,
			"check the target, and the remote's rules and network")
	case err == nil:
		if o.target != "" {
			p.step("target", reached, o.target, true)
		}
		p.conclude("the tunnel works")
		return nil
	case errors.Is(err, mux.ErrNotCulvert) && o.target == "":
		// The handshake is the part that is specified, and it was completed.
		p.conclude("the handshake works, but this is not a culvert remote: it serves no tunnel")
		return nil
	}
	return connectFailure(err, c)
}

// checkReport is what a check prints as JSON. docs/cli.md documents it.
type checkReport struct {
	Remote string      `json:"remote"`
	Steps  []checkStep `json:"steps"`
	Result string      `json:"result,omitempty"` // in words; not if there is an error
	Error  string      `json:"error,omitempty"`
	Status int         `json:"status"` // exit status

	Obstacle string `json:"obstacle,omitempty"` // see tunnel.Obstacle
	Hint     string `json:"hint,omitempty"`     // what to do about the error

	// Skew is by how much at least the server's clock is ahead; nil if it is not known.
	Skew *float64 `json:"clock_skew_seconds,omitempty"`
}

type checkStep struct {
	Step         string  `json:"step"`
	OK           bool    `json:"ok"`
	Milliseconds float64 `json:"milliseconds,omitempty"`
	Detail       string  `json:"detail,omitempty"`
}

// checkPrinter prints a line a step, or in the end all steps as JSON.
type checkPrinter struct {
	w       io.Writer
	trust   *remoteTrust
	options *trustOptions
	json    bool
	report  checkReport
}

func (p *checkPrinter) progress(step tunnel.Progress) {
	var identity *protocol.IdentityError
	if step.Err != nil {
		p.report.Obstacle = string(tunnel.ObstacleOf(step.Err))
	}
	defer p.clock(step)
	switch {
	case step.Err == nil:
		p.step(string(step.Step), step.Took, step.Detail, true)
		if step.Step == tunnel.StepHandshake {
			p.step("identity", 0, p.identity(), true)
		}
	case errors.As(step.Err, &identity):
		p.step(string(step.Step), step.Took, "key "+identity.Key.String(), true)
		p.step("identity", 0, "failed", false)
	case errors.Is(step.Err, mux.ErrNotCulvert):
		p.step(string(step.Step), step.Took, "not an answer of culvert", false)
	default:
		p.step(string(step.Step), step.Took, "failed", false)
	}
}

// clock reports how the server's clock differs, once that is known.
func (p *checkPrinter) clock(step tunnel.Progress) {
	if step.Skew == nil || p.report.Skew != nil {
		return
	}
	seconds := step.Skew.Seconds()
	p.report.Skew = &seconds
	if skew := *step.Skew; skew.Abs() >= tunnel.ClockNotice && !p.json {
		p.step("clock", 0, skewText(skew), true)
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

func (p *checkPrinter) step(name string, took time.Duration, detail string, ok bool) {
	millis, t := float64(took)/float64(time.Millisecond), ""
	if p.json {
		p.report.Steps = append(p.report.Steps, checkStep{name, ok, millis, printable.Line(detail)})
		return
	}
	if took > 0 {
		t = fmt.Sprintf("%.1f ms", millis)
	}
	line := fmt.Sprintf("%-10s %10s  %s", name, t, printable.Line(detail))
	fmt.Fprintln(p.w, strings.TrimRight(line, " "))
}

// conclude tells the result.
func (p *checkPrinter) conclude(result string) {
	if p.json {
		p.report.Result = result
	} else {
		fmt.Fprintln(p.w, result)
	}
}

// finish prints the report as JSON, if that is wanted.
func (p *checkPrinter) finish(err error) {
	if !p.json {
		return
	}
	if failure, ok := errors.AsType[*exit.Failure](err); ok {
		p.report.Error, p.report.Status = printable.Line(failure.Error()), failure.Code
		p.report.Hint = printable.Line(failure.Hint)
	}
	encoder := json.NewEncoder(p.w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(p.report) // the writer keeps the error
}
