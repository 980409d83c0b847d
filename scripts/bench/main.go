//go:build linux

// Command bench compares culvert with OpenSSH, Xray and no proxy, in turns in one run, on
// loopback and over emulated wide-area links, and writes what it found as JSON, and as tables and
// plots for people. scripts/bench.sh, which "make bench" calls, builds what it needs and starts it:
//
//	bench [-quick] [-only CASE,…] [-rounds N] [-results FILE] [-docs FOLDER]
//	                                       measure
//	bench -list                            list the cases
//	bench -render FILE [-docs FOLDER]      write tables and plots again
//
// With -only, the cases it names (by patterns such as loopback-*) replace those in the file of
// results; the others stay.
//
// cases.go has the cases, run.go has them measured in turns, site.go makes the hosts and the link
// of one, progress.go says how far it is. Packages load, peer, proc, result and report do the work.
// The target and the loads run in processes of their own, "bench target" and "bench load", because
// that is how they get into a network namespace.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/report"
	"culvert/scripts/bench/result"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// command runs what the arguments ask for.
func command(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "load":
			return runLoad(ctx, os.Stdin, os.Stdout)
		case "target":
			return runTarget(ctx, args[1:])
		}
	}
	return bench(ctx, args)
}

// runLoad does a request in JSON and prints what it has measured.
func runLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	var request load.Request
	if err := json.NewDecoder(in).Decode(&request); err != nil {
		return err
	}
	values, err := load.Run(ctx, request)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(values)
}

// runTarget serves on some ports of a host until it is interrupted, and prints a line when it is
// ready.
func runTarget(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("target", flag.ContinueOnError)
	host := flags.String("host", "", "`address` to listen on")
	first := flags.Int("first", 0, "first `port`")
	count := flags.Int("count", 1, "`number` of ports")
	page := flags.Int("page", 0, "first `port` of the page (0: there is none)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *page == 0 {
		return load.Serve(ctx, *host, *first, *count, func() { fmt.Println("ready") })
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var serving sync.WaitGroup
	defer serving.Wait()
	return load.ServePage(ctx, *host, *page, func() {
		serving.Go(func() {
			cancel(load.Serve(ctx, *host, *first, *count,
				func() { fmt.Println("ready") }))
		})
	}, func(run, milliseconds, loaded string) { fmt.Println("page", run, milliseconds, loaded) })
}

// options are what the command line says.
type options struct {
	quick, list           bool
	only, peers           string
	rounds                int
	results, docs, render string
	programs              peer.Programs
	chromium              string
	versions              map[string]string // that the programs don't tell by themselves
	command               string            // to do the same again
}

func parse(args []string) (options, error) {
	o := options{versions: make(map[string]string)}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "fewer rounds and shorter measurements: for a first look")
	flags.BoolVar(&o.list, "list", false, "list the cases and end")
	flags.StringVar(&o.only, "only", "",
		"measure the cases of these `patterns` alone, and replace them in the results")
	flags.StringVar(&o.peers, "peers", "",
		"measure these `peers` alone; prints what it finds and writes nothing")
	flags.IntVar(&o.rounds, "rounds", 0, "measure each case in `number` rounds (0: as the case says)")
	flags.StringVar(&o.results, "results", "build/bench.json", "`file` of the results")
	flags.StringVar(&o.docs, "docs", "docs",
		"`folder` with benchmarks.md, for tables and plots; empty: none")
	flags.StringVar(&o.render, "render", "",
		"measure nothing: write tables and plots from the results in `file`")
	flags.StringVar(&o.programs.Culvert, "culvert", "build/culvert", "`path` of culvert")
	flags.StringVar(&o.programs.Xray, "xray", "", "`path` of Xray")
	flags.StringVar(&o.command, "command", "",
		"the `command` that was given to make bench, for the report")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.programs.SSH, o.programs.SSHD = peer.Find("ssh"), peer.Find("sshd")
	o.programs.Keygen, o.programs.HAProxy = peer.Find("ssh-keygen"), peer.Find("haproxy")
	o.chromium = peer.Find("chromium")
	if o.command == "" {
		o.command = strings.TrimSpace("bench " + strings.Join(args, " "))
	}
	// Programs run in other folders.
	for _, path := range []*string{&o.programs.Culvert, &o.programs.Xray} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return o, err
		}
		*path = absolute
	}
	return o, nil
}

// bench measures, or lists or renders, as the arguments say.
func bench(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	cases := chosen(allCases(o), o)
	switch {
	case o.list:
		for _, c := range cases {
			fmt.Printf("%-22s %s\n", c.name, c.title)
		}
		return nil
	case o.render != "":
		results, err := result.Read(o.render)
		if err != nil {
			return err
		}
		return report.Write(o.docs, results)
	case len(cases) == 0:
		return fmt.Errorf("no case is %q: see -list", o.only)
	}
	results := result.New()
	if o.only != "" { // the other cases stay as they were
		if results, err = result.Read(o.results); err != nil {
			return err
		}
	}
	return measure(ctx, o, cases, results)
}

// measure runs the cases and writes the report. The results are stored even when it is interrupted,
// but for the case it is in.
func measure(ctx context.Context, o options, cases []benchCase, results *result.Results) error {
	r, err := newRunner(o, results)
	if err != nil {
		return err
	}
	defer r.close()
	measured, err := r.run(ctx, cases)
	report.Summary(os.Stdout, measured)
	if ctx.Err() != nil || o.peers != "" || o.docs == "" {
		return err
	}
	return errors.Join(err, report.Write(o.docs, results))
}
