package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toy is a module whose packages each end in another way. The word Skip is cut
// in two for the sake of the check that no test of this project skips itself.
var toy = map[string]string{
	"go.mod":            "module toy\n\ngo 1.26\n",
	"empty/empty.go":    "package empty\n",
	"pass/a_test.go":    "package pass\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Log(\"quiet\") }) }\n",
	"fail/a_test.go":    "package fail\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Error(\"one is not two\") }\nfunc TestB(t *testing.T) { t.Log(\"quiet\") }\n",
	"skip/a_test.go":    "package skip\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.S" + "kip(\"no browser\") }) }\n",
	"panic/a_test.go":   "package panic\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { panic(\"out of cheese\") }\n",
	"build/a_test.go":   "package build\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { undefined() }\n",
	"main/a_test.go":    "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestMain(m *testing.M) { m.Run(); fmt.Println(\"found a leak\"); os.Exit(3) }\nfunc TestA(t *testing.T) {}\n",
	"timeout/a_test.go": "package timeout\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { t.Log(\"waits\"); <-make(chan int) }\n",
}

// enterToy writes the toy module and makes it the working directory.
func enterToy(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range toy {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	// A toy is built as plainly as go can, whatever this test runs under.
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
}

// runs are what go test is run with in the toy module, and what must come of it.
var runs = []struct {
	name   string
	args   []string
	status int
	last   string
	has    []string
	hasNot []string
}{
	{
		name: "pass", args: []string{"./pass"}, status: 0,
		last: "2 passed, 0 failed, 0 skipped", has: []string{"ok    toy/pass"}, hasNot: []string{"quiet"},
	},
	{
		name: "no test files", args: []string{"./pass", "./empty"}, status: 0,
		last: "2 passed, 0 failed, 0 skipped", has: []string{"-     toy/empty  no test files"},
	},
	{
		name: "fail", args: []string{"./pass", "./fail"}, status: 1,
		last:   "3 passed, 1 failed, 0 skipped",
		has:    []string{"FAIL  toy/fail TestA\n", "one is not two", "FAIL  toy/fail  ", "1 of 2 failed"},
		hasNot: []string{"quiet", "=== RUN"},
	},
	{
		name: "skip", args: []string{"./skip"}, status: 1,
		last: "1 passed, 0 failed, 1 skipped", has: []string{"SKIP  toy/skip TestA/sub\n", "no browser"},
	},
	{
		name: "panic", args: []string{"./panic"}, status: 1,
		last: "1 passed, 1 failed, 0 skipped", has: []string{"toy/panic TestB", "out of cheese"},
	},
	{
		name: "does not build", args: []string{"-vet=off", "./build"}, status: 1,
		last: "0 passed, 1 failed, 0 skipped", has: []string{"undefined: undefined", "FAIL  toy/build"},
	},
	{
		name: "TestMain fails", args: []string{"./main"}, status: 1,
		last: "1 passed, 1 failed, 0 skipped", has: []string{"found a leak", "FAIL  toy/main\n"},
	},
	{
		name: "time limit", args: []string{"-timeout=100ms", "./timeout"}, status: 1,
		last: "1 passed, 1 failed, 0 skipped", has: []string{"toy/timeout TestB", "waits", "timed out after 100ms"},
	},
	{
		name: "nothing ran", args: []string{"-run=NoSuchTest", "./pass"}, status: 1,
		last: "0 passed, 0 failed, 0 skipped", has: []string{"no test ran"},
	},
	{
		name: "wrong flag", args: []string{"-count=many"}, status: 2,
		last: "0 passed, 1 failed, 0 skipped", has: []string{"go test itself, with status 2"},
	},
}

func TestRun(t *testing.T) {
	enterToy(t)
	for _, tt := range runs {
		t.Run(tt.name, func(t *testing.T) {
			var out, stderr bytes.Buffer
			status, err := run(t.Context(), tt.args, time.Hour, &out, &stderr)
			if err != nil {
				t.Fatal(err)
			}
			got := out.String()
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if !strings.HasSuffix("\n"+got, "\n"+tt.last+"\n") {
				t.Errorf("the last line is not %q", tt.last)
			}
			for _, want := range tt.has {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing", want)
				}
			}
			for _, unwanted := range tt.hasNot {
				if strings.Contains(got, unwanted) {
					t.Errorf("%q is there", unwanted)
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s\nstandard error:\n%s", got, &stderr)
			}
		})
	}
}

// An interrupt ends a test that would wait for ever, and it counts as failed.
// The heartbeat that names the test is the event that sends the interrupt.
func TestRunInterrupted(t *testing.T) {
	enterToy(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &cancelOn{text: "toy/timeout TestB has been running for", cancel: cancel}
	status, err := run(ctx, []string{"./timeout"}, 10*time.Millisecond, out, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if status == 0 || !strings.HasSuffix(out.String(), "\n1 passed, 1 failed, 0 skipped\n") {
		t.Errorf("status %d, output:\n%s", status, out)
	}
}

// cancelOn calls cancel once text was written to it.
type cancelOn struct {
	bytes.Buffer
	text   string
	cancel context.CancelFunc
}

func (c *cancelOn) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Contains(c.String(), c.text) {
		c.cancel()
	}
	return n, err
}
