//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/result"
)

// program is culvert, built for these tests.
var program string

// TestMain builds culvert. The test binary also runs as the target and the loads that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "load" || os.Args[1] == "target") {
		main()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=10") // else each child takes 1 s to exit
	folder, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(folder, "culvert")
	if output, err := exec.Command("go", "-C", "../..", "build", "-o", program,
		".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, output)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		os.RemoveAll(folder)
		os.Exit(status)
	}))
}

// One case is actually measured, with and without culvert, and its report is written.
func TestMeasure(t *testing.T) {
	folder := t.TempDir()
	stored, docs := filepath.Join(folder, "bench.json"), filepath.Join(folder, "docs")
	args := []string{"-quick", "-only", "loopback-down-1", "-culvert", program, "-results", stored,
		"-docs", docs}
	o, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	cases := chosen(allCases(o), o)
	if len(cases) != 1 {
		t.Fatalf("%d cases", len(cases))
	}
	cases[0].peers = []string{peer.None, peer.Culvert, "nobody"}
	if err := measure(t.Context(), o, cases, result.New()); err != nil {
		t.Fatal(err)
	}

	r, err := result.Read(stored)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{peer.None, peer.Culvert} {
		if rate := r.Values("loopback-down-1", name, "mb_per_s"); len(rate) != 1 || rate[0] <= 0 {
			t.Errorf("%s: throughput %v; failure %q", name, rate, r.Failure("loopback-down-1", name))
		}
	}
	if cpu := r.Values("loopback-down-1", peer.Culvert, "cpu_s_per_gb"); len(cpu) != 1 || cpu[0] <= 0 {
		t.Errorf("CPU time %v", cpu)
	}
	if failure := r.Failure("loopback-down-1", "nobody"); failure == "" {
		t.Error("a peer that does not exist was measured")
	}
	text, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil || !strings.Contains(string(text), "| culvert | ") {
		t.Errorf("report: %v\n%s", err, text)
	}
	if svg, err := os.ReadFile(filepath.Join(docs, "benchmarks",
		"loopback-throughput.svg")); err != nil || !strings.Contains(string(svg), "</svg>") {
		t.Errorf("plot: %v, %d bytes", err, len(svg))
	}
}

// The third-party programs are configured correctly: connections go through them.
func TestPeers(t *testing.T) {
	o, err := parse([]string{"-culvert", program})
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRunner(o, result.New())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	s, err := newSite(t.Context(), r.starter, r.self, benchCase{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, test := range []struct {
		name    string
		proxied bool
		pids    int
	}{
		{peer.None, false, 0},
		{peer.OpenSSHGCM, false, 2},
		{peer.OpenSSH, false, 2},
		{peer.Culvert, true, 2}, // HAProxy's doesn't count
	} {
		p, stop, err := s.startPeer(t.Context(), test.name, o.programs, benchCase{proxied: test.proxied})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if len(p.PIDs) != test.pids {
			t.Errorf("%s: %d processes, want %d", test.name, len(p.PIDs), test.pids)
		}
		stop()
	}
}

// A remote has many users, whose sessions the load makes.
func TestMany(t *testing.T) {
	stored := filepath.Join(t.TempDir(), "bench.json")
	o, err := parse([]string{"-only", "many", "-rounds", "1", "-culvert", program, "-results", stored,
		"-docs", ""})
	if err != nil {
		t.Fatal(err)
	}
	cases := chosen(allCases(o), o)
	c := &cases[0]
	c.users, c.ports = 6, 1
	c.request.Streams, c.request.Bulk = 3, 2
	c.request.Warmup, c.request.Window = 200*time.Millisecond, 500*time.Millisecond
	if err := measure(t.Context(), o, cases, result.New()); err != nil {
		t.Fatal(err)
	}
	r, err := result.Read(stored)
	if err != nil {
		t.Fatal(err)
	}
	if failure := r.Failure("many", peer.CulvertUsers); failure != "" {
		t.Fatal(failure)
	}
	for value, want := range map[string]float64{"sessions": 6, "streams": 18, "one_mb_per_s": 0,
		"mb_per_s": 0, "ratio": 0, "p50_ms": 0, "p90_ms": 0, "p99_ms": 0, "paced_mb_per_s": 0,
		"connected_per_s": 0} {
		got := r.Values("many", peer.CulvertUsers, value)
		if len(got) != 1 || got[0] <= 0 || want > 0 && got[0] != want {
			t.Errorf("%s: %v, want %v", value, got, want)
		}
	}
}

// An interrupted run stops at once with an error, and keeps the earlier results.
func TestInterrupt(t *testing.T) {
	stored := filepath.Join(t.TempDir(), "bench.json")
	o, err := parse([]string{"-only", "loopback-down-1", "-culvert", program, "-results", stored,
		"-docs", ""})
	if err != nil {
		t.Fatal(err)
	}
	old := result.New()
	old.Cases["loopback-up-1"] = &result.Case{Run: result.Run{Commit: "before"}}
	if err := old.Write(stored); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := measure(ctx, o, chosen(allCases(o), o), old); err == nil {
		t.Error("no error")
	}
	r, err := result.Read(stored)
	if err != nil || r.Cases["loopback-up-1"].Commit != "before" || len(r.Cases) != 1 {
		t.Errorf("results %+v, %v", r, err)
	}
}

// TestWithout: the page is rewritten only when no table of it would be lost.
func TestWithout(t *testing.T) {
	all := []benchCase{{name: "a"}, {name: "b"}, {name: "c"}}
	results := result.New()
	results.Cases["a"] = &result.Case{}
	if got := without(results, all, all[1:2]); got != "c" {
		t.Errorf("without %q", got)
	}
	if got := without(results, all, all[1:]); got != "" {
		t.Errorf("without %q", got)
	}
	docs := t.TempDir()
	if hasPage(docs) || hasPage("") {
		t.Error("there is a page")
	}
	if err := os.WriteFile(filepath.Join(docs, "benchmarks.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !hasPage(docs) {
		t.Error("there is no page")
	}
}

func TestChosen(t *testing.T) {
	all := allCases(options{})
	names := make(map[string]bool)
	for _, c := range all {
		if names[c.name] {
			t.Errorf("two cases %s", c.name)
		}
		names[c.name] = true
		if c.title == "" || c.rounds < 1 || expected(c) <= 0 || len(c.peers) == 0 {
			t.Errorf("incomplete: %+v", c)
		}
	}
	for _, test := range []struct {
		only, peers string
		want        int
	}{
		{"", "", len(all)},
		{"loopback-down-1", "", 1},
		{"loopback-down-*,long-up", "", 4},
		{"memory", "", 1},
		{"cold,memory", "", 5},
		{"loss", "", 16},
		{"loss-down-1", "", 1},
		{"rival-cubic", "", 2},
		{"los", "", 0},
		{"nothing", "", 0},
		{"idle-1000", peer.None, 0},
		{"", peer.Culvert, len(all) - 2}, // without many and rival-cubic-bbr, which have others
	} {
		o := options{only: test.only, peers: test.peers}
		if got := chosen(allCases(o), o); len(got) != test.want {
			t.Errorf("only %q, peers %q: %d cases, want %d", test.only, test.peers, len(got), test.want)
		}
	}
}

// The cases of links that have no congestion control of their own take that of the options.
func TestControl(t *testing.T) {
	for _, c := range allCases(options{control: cubic}) {
		own := strings.HasPrefix(c.name, "loss") || strings.HasPrefix(c.name, "cold") ||
			strings.HasPrefix(c.name, "rival")
		switch {
		case c.link == nil:
			if c.control != "" {
				t.Errorf("%s: %s without a link", c.name, c.control)
			}
		case !own && c.control != cubic, own && c.control == "":
			t.Errorf("%s: congestion control %q", c.name, c.control)
		}
		if own && c.control == bbr && strings.Contains(c.name, cubic) &&
			c.name != "rival-bbr-cubic" {
			t.Errorf("%s: under BBR", c.name)
		}
	}
}

func TestProgress(t *testing.T) {
	cases := []benchCase{
		{name: "a", rounds: 2, peers: []string{"x", "y"}, extra: 10 * time.Second},
		{name: "b", rounds: 1, peers: []string{"x"}, request: load.Request{Window: time.Minute}},
	}
	var out strings.Builder
	p := newProgress(&out, cases)
	if rest := p.rest(); rest != 100*time.Second {
		t.Errorf("rest %v at the beginning", rest)
	}
	p.begin(cases[0], "x", 0)
	p.end(cases[0], result.Sample{Values: map[string]float64{"p50_ms": 1.5}}, 4*time.Second)
	p.end(cases[0], result.Sample{Failed: "no way"}, 6*time.Second)
	if rest := p.rest(); rest != 70*time.Second { // two of a at 5 s, one of b
		t.Errorf("rest %v after two", rest)
	}
	p.leave(cases[1], errors.New("no link"))
	if rest := p.rest(); rest != 10*time.Second {
		t.Errorf("rest %v with a case left out", rest)
	}
	for _, want := range []string{"5 measurements",
		"1/5, 1m40s to go: a, round 1 of 2, x: p50_ms " +
			"1.5\n", "failed: no way\n", "b is left out: no link\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestFirstMatch(t *testing.T) {
	for text, want := range map[string]string{
		"culvert version v1.2-3-gabc\n": "v1.2-3-gabc",
		"nothing":                       "",
	} {
		if got := firstMatch(`version (\S+)`, text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if kernel() == "" || processor() == "" {
		t.Errorf("unknown machine: kernel %q, processor %q", kernel(), processor())
	}
}

// The links of a comparison are chosen by their names, each of which is known.
func TestChosenSpeed(t *testing.T) {
	all, err := chosenSpeed("")
	if err != nil || len(all) != 5 {
		t.Errorf("%d links, %v", len(all), err)
	}
	some, err := chosenSpeed("lossy,loopback")
	if err != nil || len(some) != 2 || some[0].link == nil || some[1].link != nil {
		t.Errorf("%+v, %v", some, err)
	}
	if _, err := chosenSpeed("lossy,lousy"); err == nil || !strings.Contains(err.Error(), "lousy") {
		t.Errorf("an unknown link: %v", err)
	}
}
