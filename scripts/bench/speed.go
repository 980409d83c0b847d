//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"culvert/internal/testnet/link"
	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/proc"
	"culvert/scripts/bench/result"
)

// speedCase is a link on which `culvert speed` is compared with a transfer without a proxy.
type speedCase struct {
	name      string
	title     string
	link      *link.Config // nil: loopback
	control   string       // congestion control
	near, far string       // a setting of the kernel of the local and the remote, "" for none
}

// youth and age are how old a connection is when its download or upload begins to be measured: as
// the session's is, which culvert measures idle first, then down, then up. It matters, since BBR is
// slow at first, and about every 10 seconds sends next to nothing for a while, to measure the least
// round trip.
const (
	youth = 2 * time.Second
	age   = 9 * time.Second
)

// smallWindow limits a direction to about 3 MB/s at 40 ms.
const smallWindow = "net.ipv4.tcp_rmem=4096 65536 262144"

var speedCases = []speedCase{
	{name: "loopback", title: "short and fat: loopback", control: bbr},
	{name: "slow", title: "slow: 40 ms, 20 Mbit/s", control: bbr,
		link: &link.Config{Delay: 20 * time.Millisecond, Rate: 20e6}},
	{name: "window-local", title: "tcp_rmem of the local: 40 ms, 100 Mbit/s", control: bbr,
		near: smallWindow,
		link: &link.Config{Delay: 20 * time.Millisecond, Rate: 100e6}},
	{name: "window-remote", title: "tcp_rmem of the remote: 40 ms, 100 Mbit/s", control: bbr,
		far:  smallWindow,
		link: &link.Config{Delay: 20 * time.Millisecond, Rate: 100e6}},
	{name: "lossy", title: "lossy: 40 ms, 100 Mbit/s, 1 %", control: bbr,
		link: &link.Config{Delay: 20 * time.Millisecond, Rate: 100e6, Loss: 0.01, Seed: 1}},
}

// speedTransfer is what `culvert speed --json` prints about a direction.
type speedTransfer struct {
	Rate   float64 `json:"bytes_per_second"`
	Reason struct {
		Limit   string `json:"limit"`
		End     string `json:"end"`
		Setting string `json:"setting"`
	} `json:"reason"`
}

// runSpeed compares `culvert speed` with transfers without a proxy, in turns, and prints a table.
func runSpeed(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("speed", flag.ContinueOnError)
	culvert := flags.String("culvert", "build/culvert", "`path` of culvert")
	rounds := flags.Int("rounds", 5, "`number` of rounds")
	only := flags.String("only", "", "measure only the `links` with these names: "+
		strings.Join(speedNames(), ", "))
	command := flags.String("command", "", "the make `command` that the report shows")
	if err := flags.Parse(args); err != nil {
		return err
	}
	program, err := filepath.Abs(*culvert)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	starter := proc.NewStarter()
	defer starter.Close()
	cases, err := chosenSpeed(*only)
	if err != nil {
		return err
	}
	printSpeedSetting(ctx, program, *command)
	fmt.Println("| link | direction | no proxy, MB/s | speed, MB/s | ratio | reasons |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, c := range cases {
		if err := c.run(ctx, starter, self, program, *rounds); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// speedNames returns the names of the links.
func speedNames() (names []string) {
	for _, c := range speedCases {
		names = append(names, c.name)
	}
	return names
}

// chosenSpeed returns the cases with the names, which commas separate, or all if there are none.
func chosenSpeed(only string) ([]speedCase, error) {
	if only == "" {
		return speedCases, nil
	}
	var cases []speedCase
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(speedCases, func(c speedCase) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no link is %q: there are %s", name,
				strings.Join(speedNames(), ", "))
		}
		cases = append(cases, speedCases[i])
	}
	return cases, nil
}

// printSpeedSetting prints what the measurement was made with.
func printSpeedSetting(ctx context.Context, culvert, command string) {
	fmt.Printf("%s, %d cores; %s; %s; culvert %s; BBR at both ends of links. %s: `%s`\n\n",
		processor(), runtime.NumCPU(), kernel(), runtime.Version(),
		firstMatch(`version (\S+)`, outputOf(ctx, culvert, "--version")),
		time.Now().UTC().Format("2006-01-02 15:04 MST"), command)
}

// speedRates are the rates of a direction in MB/s, and the reasons for them, in each round.
type speedRates struct {
	direct, measured, ratios []float64
	reasons                  []string
}

// run measures the rounds of a case and prints its rows.
func (c speedCase) run(
	ctx context.Context, starter *proc.Starter, self, program string, rounds int,
) error {
	s, err := newSite(ctx, starter, self, benchCase{link: c.link, control: c.control})
	if err != nil {
		return err
	}
	defer s.close()
	for _, set := range []struct {
		host    peer.Host
		setting string
	}{{s.near, c.near}, {s.far, c.far}} {
		if set.setting == "" {
			continue
		}
		command := set.host.Command(peer.Find("sysctl"), "-qw", set.setting)
		if _, err := starter.Run(ctx, "sysctl", command, nil); err != nil {
			return err
		}
	}
	measure, stop, err := c.startRemote(ctx, s, program)
	if err != nil {
		return err
	}
	defer stop()
	rates := [2]speedRates{}
	for round := range rounds {
		report, err := measure()
		if err != nil {
			return err
		}
		for i, warmup := range []time.Duration{youth, age} {
			up := i == 1
			values, err := s.load(ctx, load.Request{Kind: "throughput", Target: s.address(),
				Streams: 1, Up: up, Warmup: warmup, Window: 5 * time.Second})
			if err != nil {
				return err
			}
			rates[i].add(values["mb_per_s"], report[i])
			fmt.Fprintf(os.Stderr, "%s, round %d of %d, up %t: no proxy %.2f MB/s, speed %.2f MB/s\n",
				c.name, round+1, rounds, up, values["mb_per_s"], report[i].Rate/1e6)
		}
	}
	for i, direction := range []string{"download", "upload"} {
		r := rates[i]
		fmt.Printf("| %s | %s | %.2f | %.2f | %.2f | %s |\n", c.title, direction,
			result.Median(r.direct), result.Median(r.measured), result.Median(r.ratios),
			strings.Join(r.reasons, "; "))
	}
	return nil
}

// add adds a round.
func (r *speedRates) add(direct float64, t speedTransfer) {
	measured := t.Rate / 1e6
	r.direct, r.measured = append(r.direct, direct), append(r.measured, measured)
	r.ratios = append(r.ratios, measured/direct)
	reason := strings.Join(strings.Fields(t.Reason.Limit+" "+t.Reason.End+" "+t.Reason.Setting), " ")
	for i, known := range r.reasons {
		if text, _, _ := strings.Cut(known, " ×"); text == reason {
			var n int
			fmt.Sscanf(known[len(text):], " ×%d", &n)
			r.reasons[i] = fmt.Sprintf("%s ×%d", reason, n+1)
			return
		}
	}
	r.reasons = append(r.reasons, reason+" ×1")
}

// startRemote starts a remote, and returns a function that measures it from the near host.
func (c speedCase) startRemote(
	ctx context.Context, s *site, program string,
) (measure func() ([2]speedTransfer, error), stop func(), err error) {
	folder, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return nil, nil, err
	}
	port, err := peer.FreePort()
	if err != nil {
		return nil, nil, err
	}
	key := func(name string) string { return filepath.Join(folder, name) }
	var public []byte // the remote's
	for _, end := range []string{"near", "far"} {
		keygen := s.far.Command(program, "keygen", "-o", key(end))
		keygen.Env = peer.Environment(folder)
		if public, err = s.starter.Run(ctx, "keygen", keygen, nil); err != nil {
			return nil, nil, err
		}
	}
	address := s.far.Address + ":" + port
	serve := s.far.Command(program, "remote", "--key", key("far"), "--allow-anyone",
		"--control", "none", "--print-ready", "--congestion", c.control, "--listen", address)
	serve.Env = peer.Environment(folder)
	remote, err := s.starter.Start("remote", serve)
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		remote.Stop()
		os.RemoveAll(folder)
	}
	if _, err := remote.Line(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	measure = func() (both [2]speedTransfer, err error) {
		cmd := s.near.Command(program, "speed", "--json", "--key", key("near"),
			"--remote-key", string(bytes.TrimSpace(public)), "--known-remotes", key("known"),
			"--congestion", c.control, "ws://"+address+"/")
		cmd.Env = peer.Environment(folder)
		output, err := s.starter.Run(ctx, "speed", cmd, nil)
		var report struct{ Download, Upload speedTransfer }
		if err == nil {
			err = json.Unmarshal(output, &report)
		}
		return [2]speedTransfer{report.Download, report.Upload}, err
	}
	return measure, stop, nil
}
