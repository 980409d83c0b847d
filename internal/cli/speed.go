package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/printable"
	"culvert/tunnel"
	"culvert/tunnel/mux"
	"culvert/tunnel/speed"
)

type speedOptions struct {
	connect connectOptions
	window  time.Duration
	json    bool
}

func speedCommand(out *outputs) *flags.Command {
	o := &speedOptions{}
	o.connect.log.out = out
	return &flags.Command{
		Name:  "speed",
		Usage: "measure what a tunnel carries, and find out what limits it",
		Examples: []string{
			"culvert speed wss://exit.example.org/",
			"culvert speed --duration 10s --json work",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *speedOptions) define(s *flags.Set) {
	o.connect.define(s)
	s.Group("output")
	s.Duration(&o.window, "duration", speed.DefaultWindow,
		"measure each direction for `TIME`, after some seconds of warm-up: 1s to 20s")
	s.Bool(&o.json, "json", "print the result as an object in JSON")
}

func (o *speedOptions) run(ctx context.Context) error {
	if o.window < speed.MinWindow || o.window > speed.MaxWindow {
		return &flags.ValueError{
			Flag: "duration", Value: o.window.String(), Why: fmt.Sprintf("must be %v to %v",
				speed.MinWindow, speed.MaxWindow),
			Example: speed.DefaultWindow.String(),
		}
	}
	shareProcessors() // as the ends of a tunnel do
	c, err := o.connect.loadQuiet()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.ConnectTimeout+checkPingTimeout+speed.MaxTime)
	defer cancel()
	bars := newSpeedBars(os.Stderr)
	result, err := tunnel.Speed(ctx, c.config, o.window, bars.show)
	bars.close()
	if err != nil {
		err = speedFailure(err, c)
	}
	out := &resultWriter{w: os.Stdout}
	if o.json {
		printSpeedJSON(out, c.address.String(), result, err)
	} else if err == nil {
		printSpeed(out, result)
	}
	return cmp.Or(err, cannotWrite(out.err))
}

// speedFailure explains why there is no result.
func speedFailure(err error, c *connection) error {
	fail := func(why error, hint string) error {
		return exit.Fail(exit.Failed, "the speed can't be measured", why, hint)
	}
	failed, ok := errors.AsType[*tunnel.SpeedError](err)
	if !ok {
		return connectFailure(err, c)
	}
	if errors.Is(err, tunnel.ErrNoService) {
		return fail(fmt.Errorf("%s is a culvert of an earlier version, without speed tests", c.address),
			"upgrade the remote")
	}
	if refused, ok := errors.AsType[*mux.OpenError](err); ok {
		switch refused.Code {
		case mux.CodeServiceOff:
			return fail(errors.New("the remote's operator has switched speed tests off"),
				"ask for a remote without --no-speed, or measure a download through the tunnel")
		case mux.CodeServiceBusy:
			return fail(errors.New("others measure the remote's speed, or you do on another machine"),
				"try again in a minute")
		}
		return fail(fmt.Errorf("the remote refuses the test: %w", refused), "")
	}
	return fail(failed.Err, "try again; `culvert check` tests the connection alone")
}

// printSpeed prints the result for people.
func printSpeed(w io.Writer, r speed.Result) {
	fmt.Fprintf(w, "%-10s %10s  jitter %s, idle\n", "round trip", millis(r.Idle.Median),
		millis(r.Idle.Jitter))
	transfers := []struct {
		name string
		speed.Transfer
	}{{"download", r.Download}, {"upload", r.Upload}}
	for _, t := range transfers {
		fmt.Fprintf(w, "%-10s %10s  round trip %s, jitter %s, %s\n", t.name,
			byteRate(t.Rate), millis(t.Loaded.Median), millis(t.Loaded.Jitter), resentText(t.Transfer))
	}
	for _, t := range transfers {
		what, todo := explain(t.Reason)
		fmt.Fprintf(w, "%s: limited by %s\n", t.name, what)
		if todo != "" {
			fmt.Fprintf(w, "  %s\n", todo)
		}
	}
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// byteRate writes a rate with three digits.
func byteRate(rate float64) string {
	switch {
	case rate >= 100e6:
		return fmt.Sprintf("%.0f MB/s", rate/1e6)
	case rate >= 10e6:
		return fmt.Sprintf("%.1f MB/s", rate/1e6)
	case rate >= 1e6:
		return fmt.Sprintf("%.2f MB/s", rate/1e6)
	case rate >= 100e3:
		return fmt.Sprintf("%.0f kB/s", rate/1e3)
	case rate >= 10e3:
		return fmt.Sprintf("%.1f kB/s", rate/1e3)
	}
	return fmt.Sprintf("%.2f kB/s", rate/1e3)
}

func resentText(t speed.Transfer) string {
	switch {
	case t.Segments < 0:
		return "retransmissions not known"
	case t.Resent == 0 || t.Segments == 0:
		return "nothing retransmitted"
	}
	return fmt.Sprintf("%d of %d segments retransmitted (%.2f %%)", t.Resent, t.Segments,
		100*float64(t.Resent)/float64(t.Segments))
}

// endNames name the ends as seen by whoever runs the command.
var endNames = map[speed.End]string{speed.Local: "this end", speed.Remote: "the remote"}

// explain tells people what a reason means, and what they may do, "" for nothing.
func explain(r speed.Reason) (what, todo string) {
	end := endNames[r.End]
	defer func() {
		switch r.Limit {
		case speed.LimitShare, speed.LimitCPU, speed.LimitUnknown: // which no proxy hides
			return
		}
		if r.Proxied {
			todo = "a proxy is in between, which hides what is behind it: measure without it to be sure"
		}
	}()
	switch r.Limit {
	case speed.LimitWindow:
		return "the receive window of the kernel at " + end, setting(r, "tcp_rmem", end)
	case speed.LimitBuffer:
		return "the send buffer of the kernel at " + end, setting(r, "tcp_wmem", end)
	case speed.LimitCPU:
		return "the processors of " + end,
			"give it faster processors, or stop what else runs there"
	case speed.LimitLoss:
		return "loss of packets on the way",
			"--congestion bbr at the sending end copes with that best; else another path"
	case speed.LimitShare:
		return "the remote, which grants you " + byteRate(float64(r.Value)),
			"ask its operator for a higher rate"
	case speed.LimitUnknown:
		return "something unknown", "the system at " + end + " doesn't tell about its TCP connections"
	}
	return "the link", ""
}

// setting tells which setting of a kernel to change.
func setting(r speed.Reason, name, end string) string {
	if r.Setting == "" {
		return "the third number of net.ipv4." + name + " at " + end + " may bound it"
	}
	todo := fmt.Sprintf("raise the third number of %s at %s, which is %d", r.Setting, end, r.Value)
	if r.Limit == speed.LimitBuffer { // a session has twice as much by itself, if it may
		todo += ", to more than twice that"
	}
	return todo
}

// speedReport is what is printed as JSON. docs/speed.md documents it.
type speedReport struct {
	Remote   string         `json:"remote"`
	Idle     *speedTrips    `json:"idle,omitempty"`
	Download *speedTransfer `json:"download,omitempty"`
	Upload   *speedTransfer `json:"upload,omitempty"`
	Error    string         `json:"error,omitempty"`
	Status   int            `json:"status"` // exit status
}

type speedTrips struct {
	RoundTrip float64 `json:"round_trip_milliseconds"`
	Jitter    float64 `json:"jitter_milliseconds"`
	Count     int     `json:"count"`
}

type speedTransfer struct {
	Rate    float64     `json:"bytes_per_second"`
	Bytes   int64       `json:"bytes"`
	Seconds float64     `json:"seconds"`
	Loaded  speedTrips  `json:"loaded"`
	Sent    *int64      `json:"segments"`      // null if it is not known
	Resent  *int64      `json:"retransmitted"` // likewise
	Reason  speedReason `json:"reason"`
}

type speedReason struct {
	Limit   string `json:"limit"`
	End     string `json:"end,omitempty"`
	Setting string `json:"setting,omitempty"`
	Value   int64  `json:"value,omitempty"`
	Proxied bool   `json:"proxied"`
	Text    string `json:"text"`
}

func newSpeedTrips(t speed.Trips) speedTrips {
	const unit = float64(time.Millisecond)
	return speedTrips{float64(t.Median) / unit, float64(t.Jitter) / unit, t.Count}
}

func newSpeedTransfer(t speed.Transfer) *speedTransfer {
	what, _ := explain(t.Reason)
	r := t.Reason
	report := &speedTransfer{
		Rate: t.Rate, Bytes: t.Bytes, Seconds: t.Took.Seconds(), Loaded: newSpeedTrips(t.Loaded),
		Reason: speedReason{string(r.Limit), string(r.End), r.Setting, r.Value, r.Proxied, what},
	}
	if t.Segments >= 0 {
		report.Sent, report.Resent = &t.Segments, &t.Resent
	}
	return report
}

func printSpeedJSON(w io.Writer, remote string, r speed.Result, err error) {
	report := speedReport{Remote: remote}
	if err == nil {
		trips := newSpeedTrips(r.Idle)
		report.Idle = &trips
		report.Download, report.Upload = newSpeedTransfer(r.Download), newSpeedTransfer(r.Upload)
	} else if failure, ok := errors.AsType[*exit.Failure](err); ok {
		report.Error, report.Status = printable.Line(failure.Error()), failure.Code
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(report) // an error is that nobody reads it
}
