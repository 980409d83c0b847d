//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/scripts/bench/result"
)

// progress prints which measurement runs, how many are done and how long the rest will take.
type progress struct {
	out   io.Writer
	cases []benchCase
	took  map[string][]time.Duration // of the completed measurements, by case
	all   int
	done  int
}

func newProgress(out io.Writer, cases []benchCase) *progress {
	p := &progress{out: out, cases: cases, took: make(map[string][]time.Duration)}
	for _, c := range cases {
		p.all += measurements(c)
	}
	fmt.Fprintf(out, "bench: %d cases, %d measurements, about %v; leave the machine idle\n",
		len(cases), p.all, p.rest().Round(time.Minute))
	return p
}

func measurements(c benchCase) int { return c.rounds * len(c.peers) }

// expected estimates how long one measurement takes.
func expected(c benchCase) time.Duration { return c.request.Warmup + c.request.Window + c.extra }

// rest estimates the remaining time from the durations of a case's completed measurements, or from
// the expected one while there are none.
func (p *progress) rest() time.Duration {
	var rest time.Duration
	for _, c := range p.cases {
		each := expected(c)
		if took := p.took[c.name]; len(took) > 0 {
			var sum time.Duration
			for _, d := range took {
				sum += d
			}
			each = sum / time.Duration(len(took))
		}
		rest += each * time.Duration(measurements(c)-len(p.took[c.name]))
	}
	return rest
}

// begin announces a measurement.
func (p *progress) begin(c benchCase, peer string, round int) {
	fmt.Fprintf(p.out, "%3d/%d, %v to go: %s, round %d of %d, %s: ",
		p.done+1, p.all, p.rest().Round(time.Second), c.name, round+1, c.rounds, peer)
}

// leave reports a case that cannot be measured, or not completely.
func (p *progress) leave(c benchCase, why error) {
	left := measurements(c) - len(p.took[c.name])
	p.done += left
	p.took[c.name] = append(p.took[c.name], make([]time.Duration, left)...)
	fmt.Fprintf(p.out, "%s is left out: %v\n", c.name, why)
}

// end prints the result of a measurement.
func (p *progress) end(c benchCase, s result.Sample, took time.Duration) {
	p.took[c.name] = append(p.took[c.name], took)
	p.done++
	if s.Failed != "" {
		fmt.Fprintln(p.out, "failed:", s.Failed)
		return
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(s.Values)) {
		found = append(found, name+" "+strconv.FormatFloat(s.Values[name], 'g', 4, 64))
	}
	fmt.Fprintln(p.out, strings.Join(found, ", "))
}
