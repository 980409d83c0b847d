//go:build linux

// Command bench compares culvert with OpenSSH, Xray and no proxy, which take turns in one run, on
// loopback and over emulated wide-area links. It writes the results as JSON, and as tables and
// plots. scripts/bench.sh, which "make bench" calls, builds what it needs and starts it:
//
//	bench [-quick] [-only CASE,…] [-rounds N] [-control NAME] [-results FILE] [-docs FOLDER]
//	                                       measure
//	bench -list                            list the cases
//	bench -render FILE [-docs FOLDER]      rewrite tables and plots
//	bench speed [-rounds N] [-only LINK,…] compare `culvert speed` with transfers without a proxy
//
// With -only, the cases it selects (by patterns such as loopback-*, or the first words of their
// names, such as loss) replace those in the results file; the others stay.
//
// cases.go, cases_loopback.go and cases_link.go define the cases, run.go measures them, site.go
// sets up the hosts and the link of a case, progress.go prints the progress. Packages load, peer,
// proc, result and report do the work.
// The target and the loads run in processes of their own, "bench target" and "bench load", so that
// they can be started in a network namespace.
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
	"slices"
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

// command dispatches on the first argument.
func command(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "load":
			return runLoad(ctx, os.Stdin, os.Stdout)
		case "target":
			return runTarget(ctx, args[1:])
		case "speed":
			return runSpeed(ctx, args[1:])
		}
	}
	return bench(ctx, args)
}

// runLoad runs a request read as JSON and prints the measured values.
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

// runTarget serves on a range of ports of a host until it is interrupted. It prints a line when it
// is ready.
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

// options are the settings of the command line.
type options struct {
	quick, list           bool
	only, peers           string
	rounds                int
	results, docs, render string
	programs              peer.Programs
	chromium              string
	control               string            // congestion control where a case has none
	versions              map[string]string // of programs that do not report their own
	command               string            // to repeat the run
}

func parse(args []string) (options, error) {
	o := options{versions: make(map[string]string)}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "fewer and shorter measurements, for a first impression")
	flags.BoolVar(&o.list, "list", false, "list the cases and exit")
	flags.StringVar(&o.only, "only", "",
		"measure only the cases that match these `patterns`, and replace them in the results")
	flags.StringVar(&o.peers, "peers", "",
		"measure only these `peers`; print the results and write nothing")
	flags.IntVar(&o.rounds, "rounds", 0, "measure each case in `number` rounds (0: the case's own)")
	flags.StringVar(&o.control, "control", "",
		"`name` of the congestion control of links whose cases have none of their own, and of loopback, "+
			"where it is up to the caller")
	flags.StringVar(&o.results, "results", "docs/benchmarks/results.json", "`file` of the results")
	flags.StringVar(&o.docs, "docs", "docs",
		"`folder` of benchmarks.md, for tables and plots; empty: write none")
	flags.StringVar(&o.render, "render", "",
		"measure nothing: write tables and plots from the results in `file`")
	flags.StringVar(&o.programs.Culvert, "culvert", "build/culvert", "`path` of culvert")
	flags.StringVar(&o.programs.Xray, "xray", "", "`path` of Xray")
	flags.StringVar(&o.command, "command", "",
		"the make `command` that the report shows")
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
	// The programs are started in other folders.
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

// bench measures, lists or renders, depending on the arguments.
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
		if missing := without(results, allCases(o), nil); missing != "" && hasPage(o.docs) {
			return fmt.Errorf("%s has not been measured: its table would be lost", missing)
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
		if missing := without(results, allCases(o), cases); missing != "" && hasPage(o.docs) {
			fmt.Fprintf(os.Stderr, "bench: the page stays as it is: %s has not been measured, "+
				"nor have others perhaps\n", missing)
			o.docs = ""
		}
	}
	return measure(ctx, o, cases, results)
}

// without names a case that has neither results nor is about to be measured, "" for none.
func without(results *result.Results, all, measured []benchCase) string {
	for _, c := range all {
		same := func(other benchCase) bool { return other.name == c.name }
		if results.Cases[c.name] == nil && !slices.ContainsFunc(measured, same) {
			return c.name
		}
	}
	return ""
}

// hasPage reports whether a folder has the page, of which the tables of other cases would be lost.
func hasPage(docs string) bool {
	_, err := os.Stat(filepath.Join(docs, "benchmarks.md"))
	return docs != "" && err == nil
}

// measure runs the cases and writes the report. If it is interrupted, the results of the completed
// cases are still stored.
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
