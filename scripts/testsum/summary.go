package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxOutput bounds what is kept of one test's output, in bytes, until it is
// known whether the test failed. The dump of a few thousand goroutines fits.
const maxOutput = 4 << 20

// event is one line of go test -json, as "go doc cmd/test2json" describes it.
// Build events carry ImportPath in place of Package.
type event struct {
	Action     string
	Package    string
	Test       string
	Output     string
	Elapsed    float64 // seconds
	ImportPath string
}

// summary counts results and prints what matters of them. It is not safe for
// concurrent use.
type summary struct {
	out     io.Writer
	printed bool // something was written during the current call of line
	started time.Time

	passed, failed, skipped int
	notable                 []string // failed and skipped tests, for the end
	packages                map[string]*packageRun
}

// packageRun is a package whose last event has not come yet.
type packageRun struct {
	tests  map[string]*testRun // started and not ended
	output output
	ran    int // tests that ended
	failed int // tests that failed
}

type testRun struct {
	started time.Time
	output  output
}

func newSummary(out io.Writer, now time.Time) *summary {
	return &summary{out: out, started: now, packages: make(map[string]*packageRun)}
}

// line takes one line of go test's output at the time now, and reports whether
// it printed anything. What is not an event is printed as it stands.
func (s *summary) line(line []byte, now time.Time) bool {
	s.printed = false
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		s.print("%s\n", bytes.TrimRight(line, "\r\n"))
		return true
	}
	switch {
	case e.Package == "":
		if e.Action == "build-output" {
			s.print("%s", e.Output)
		}
	case e.Test == "":
		s.packageEvent(e)
	default:
		s.testEvent(e, now)
	}
	return s.printed
}

func (s *summary) testEvent(e event, now time.Time) {
	pkg := s.pkg(e.Package)
	test := pkg.tests[e.Test]
	if test == nil {
		test = &testRun{started: now}
		pkg.tests[e.Test] = test
	}
	switch e.Action {
	case "output":
		test.output.add(e.Output)
		return
	case "pass":
		s.passed++
	case "fail":
		s.fail(pkg, e.Package, e.Test, "FAIL")
	case "skip":
		s.skipped++
		s.note("SKIP", e.Package+" "+e.Test, &test.output)
	default:
		return
	}
	pkg.ran++
	delete(pkg.tests, e.Test)
}

func (s *summary) packageEvent(e event) {
	pkg := s.pkg(e.Package)
	switch e.Action {
	case "output":
		if e.Output != "FAIL\n" && !strings.HasPrefix(e.Output, "FAIL\t") { // said here, once
			pkg.output.add(e.Output)
		}
	case "pass", "fail":
		s.endPackage(e.Package, e.Action == "pass")
		if pkg.failed == 0 {
			s.print("ok    %s  %.1fs  %d run\n", e.Package, e.Elapsed, pkg.ran)
		} else {
			s.print("FAIL  %s  %.1fs  %d of %d failed\n", e.Package, e.Elapsed, pkg.failed, max(pkg.ran, pkg.failed))
		}
	case "skip":
		delete(s.packages, e.Package)
		s.print("-     %s  no test files\n", e.Package)
	}
}

// endPackage settles what a package leaves open: tests without a result
// failed, since a crash or the time limit took them, and a package that failed
// with every test passed counts as one failure itself.
func (s *summary) endPackage(name string, passed bool) {
	pkg := s.packages[name]
	delete(s.packages, name)
	for _, test := range sortedKeys(pkg.tests) {
		s.fail(pkg, name, test, "FAIL (unfinished)")
	}
	if passed {
		return
	}
	if pkg.failed == 0 {
		pkg.failed++
		s.failed++
		s.note("FAIL", name, &pkg.output)
		return
	}
	s.print("%s", pkg.output.text())
}

func (s *summary) fail(pkg *packageRun, name, test, word string) {
	s.failed++
	pkg.failed++
	s.note(word, name+" "+test, &pkg.tests[test].output)
}

// note prints a failed or skipped test with its output now, and its name again
// at the end.
func (s *summary) note(word, name string, o *output) {
	s.notable = append(s.notable, word+"  "+name)
	s.print("%s  %s\n%s", word, name, o.text())
}

// heartbeat prints what is running at the time now.
func (s *summary) heartbeat(now time.Time) {
	var oldest *testRun
	var name string
	for _, p := range sortedKeys(s.packages) {
		running := s.packages[p].tests
		for _, t := range sortedKeys(running) {
			hasSubtest := func(other string) bool { return strings.HasPrefix(other, t+"/") }
			if slices.ContainsFunc(sortedKeys(running), hasSubtest) {
				continue // its subtest says more
			}
			if oldest == nil || running[t].started.Before(oldest.started) {
				oldest, name = running[t], p+" "+t
			}
		}
	}
	total := now.Sub(s.started).Round(time.Second)
	if oldest == nil {
		s.print("...   %v: building, or between two tests\n", total)
		return
	}
	s.print("...   %v: %s has been running for %v\n", total, name, now.Sub(oldest.started).Round(time.Second))
}

// finish prints the end of the summary, given go test's exit status (negative
// when a signal ended it), and returns the status to exit with.
func (s *summary) finish(status int) int {
	for _, name := range sortedKeys(s.packages) {
		s.endPackage(name, false)
	}
	if status != 0 && s.failed == 0 {
		s.failed++
		s.notable = append(s.notable, fmt.Sprintf("FAIL  go test itself, with status %d", status))
	}
	if s.passed+s.failed+s.skipped == 0 {
		s.notable = append(s.notable, "FAIL  no test ran")
		status = 1
	}
	if status == 0 && s.failed+s.skipped > 0 {
		status = 1
	}
	for _, n := range s.notable {
		s.print("%s\n", n)
	}
	s.print("%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if status < 0 {
		return 1
	}
	return status
}

func (s *summary) pkg(name string) *packageRun {
	pkg := s.packages[name]
	if pkg == nil {
		pkg = &packageRun{tests: make(map[string]*testRun)}
		s.packages[name] = pkg
	}
	return pkg
}

func (s *summary) print(format string, args ...any) {
	s.printed = true
	// Nothing sensible is left to do when standard output is gone.
	_, _ = fmt.Fprintf(s.out, format, args...)
}

// output is the text that a test or package printed, up to maxOutput.
type output struct {
	buf bytes.Buffer
	cut bool
}

// add keeps text unless it is test2json's framing.
func (o *output) add(text string) {
	for _, frame := range []string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME "} {
		if strings.HasPrefix(text, frame) {
			return
		}
	}
	if o.buf.Len()+len(text) > maxOutput {
		o.cut = true
		return
	}
	o.buf.WriteString(text)
}

// text is what was kept, ending in a line feed unless it is empty.
func (o *output) text() string {
	if b := o.buf.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		o.buf.WriteByte('\n')
	}
	if o.cut {
		return o.buf.String() + fmt.Sprintf("[more output was left out: only %d bytes are kept]\n", maxOutput)
	}
	return o.buf.String()
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
