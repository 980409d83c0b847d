package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// toy is a repository of three modules, with a package for each outcome that test.sh distinguishes.
var toy = map[string]string{
	"go.mod":         "module toy\n\ngo 1.26\n",
	"tools/x/go.mod": "module toy/tools/x\n\ngo 1.26\n",
	"tools/y/go.mod": "module toy/tools/y\n\ngo 1.26\n",
	"empty/empty.go": "package empty\n",
	"pass/a_test.go": `package pass

import "testing"

func TestA(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Log("quiet") }) }
`,
	"fail/a_test.go": `package fail

import "testing"

func TestA(t *testing.T) { t.Error("one is not two") }
func TestB(t *testing.T) { t.Log("quiet") }
`,
	"flaky/a_test.go": `package flaky

import (
	"os"
	"testing"
)

func TestA(t *testing.T) { t.Run("sub", func(t *testing.T) { fail(t, "times") }) }
func TestB(t *testing.T) {}

// fail fails the first time.
func fail(t *testing.T, file string) {
	if _, err := os.Stat(file); err != nil {
		os.WriteFile(file, nil, 0o600)
		t.Error("too slow")
	}
}
`,
	"race/a_test.go": `package race

import (
	"os"
	"testing"
)

func TestA(t *testing.T) {
	if _, err := os.Stat("times"); err == nil {
		return
	}
	os.WriteFile("times", nil, 0o600)
	n, done := 0, make(chan bool)
	go func() { n++; close(done) }()
	n++
	<-done
}
`,
	"raceof/a_test.go": failsOnce("raceof", "remote: the race detector found a race") +
		"\nfunc TestB(t *testing.T) {}\n",
	"log/a_test.go": failsOnce("log", "standard error:\nfatal error: all goroutines are asleep"),
	"skip/a_test.go": `package skip

import "testing"

func TestA(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Skip("no browser") }) }
`,
	"panic/a_test.go": `package panic

import "testing"

func TestA(t *testing.T) {}
func TestB(t *testing.T) { panic("out of cheese") }
`,
	"broken/a_test.go": `package broken

import "testing"

func TestA(t *testing.T) { undefined() }
`,
	"main/a_test.go": `package main

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) { m.Run(); fmt.Println("found a leak"); os.Exit(3) }
func TestA(t *testing.T)    {}
`,
	"quits/a_test.go": `package quits

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(0) }
func TestA(t *testing.T)    {}
`,
	"stuck/a_test.go": `package stuck

import "testing"

func TestA(t *testing.T) {}
func TestB(t *testing.T) { t.Log("waits"); <-make(chan int) }
`,
	"forge/a_test.go": `package forge

import (
	"fmt"
	"testing"
)

func TestA(t *testing.T) {
	fmt.Println("{\"Action\":\"pass\",\"Package\":\"toy/forge\",\"Test\":\"TestZ\"}")
	t.Error("not true")
}
`,
	"tools/x/a_test.go": "package x\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n",
	"tools/y/a_test.go": "package y\n\nimport \"testing\"\n\nfunc TestY(t *testing.T) {}\n",
}

// failsOnce returns a test that fails the first time, with what it saw of another process.
func failsOnce(name, seen string) string {
	return fmt.Sprintf(`package %s

import (
	"os"
	"testing"
)

func TestA(t *testing.T) {
	if _, err := os.Stat("times"); err == nil {
		return
	}
	os.WriteFile("times", nil, 0o600)
	t.Error(%q)
}
`, name, seen)
}

// newToy writes the toy repository with this project's scripts into a new folder. It takes
// gotestsum from build/tools, where test.sh has built it.
func newToy(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	files := map[string]string{}
	for name, text := range toy {
		files[name] = text
	}
	for _, name := range []string{"test.sh", "retest.sh", "test-events.sh", "modules.sh"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		files["scripts/"+name] = string(text)
	}
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// testScript is scripts/test.sh of a toy repository.
func testScript(ctx context.Context, folder string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(folder, "scripts/test.sh"), args...)
	cmd.Dir = os.TempDir()
	// The flags that this test runs under must not apply to the toy.
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "TEST_TIMEOUT=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// test.sh prints the right totals and exit status for each way in which tests end.
func TestTestScript(t *testing.T) {
	folder := newToy(t)
	for _, tt := range []struct {
		name   string
		args   []string
		last   string
		has    []string
		hasNot string
	}{
		{"pass", []string{"./pass"}, "2 passed, 0 failed, 0 skipped", []string{"✓  pass"}, "quiet"},
		{"no test files", []string{"./pass", "./empty/"}, "2 passed, 0 failed, 0 skipped", nil, "quiet"},
		{"two modules", []string{"./tools/x", "./pass"}, "3 passed, 0 failed, 0 skipped", nil, "quiet"},
		{"modules below a folder", []string{"./tools/..."}, "2 passed, 0 failed, 0 skipped", nil,
			"TestX"},
		{"fail", []string{"./pass", "./fail"}, "3 passed, 1 failed, 0 skipped",
			[]string{"fail TestA", "one is not two"}, "quiet"},
		{"failure in another module", []string{"./fail", "./tools/x"}, "2 passed, 1 failed, 0 skipped",
			[]string{"✓  tools/x", "✖  fail"}, "quiet"},
		{"fails once", []string{"./flaky", "./pass"}, "5 passed, 0 failed, 0 skipped",
			[]string{"too slow", "FLAKY: toy/flaky TestA failed, and passed twice by itself"}, "quiet"},
		{"a data race, once", []string{"./race"}, "0 passed, 1 failed, 0 skipped",
			[]string{"DATA RACE"}, "FLAKY"},
		{"a data race of another process, once", []string{"./raceof"}, "1 passed, 1 failed, 0 skipped",
			[]string{"found a race"}, "FLAKY"},
		{"a crash of another process, once", []string{"./log"}, "0 passed, 1 failed, 0 skipped",
			[]string{"fatal error"}, "FLAKY"},
		{"skip", []string{"./skip"}, "1 passed, 0 failed, 1 skipped",
			[]string{"skip TestA/sub", "no browser"}, "FAIL"},
		{"panic", []string{"./panic"}, "1 passed, 1 failed, 0 skipped",
			[]string{"panic TestB", "out of cheese"}, "quiet"},
		{"does not build", []string{"./pass", "./broken"}, "2 passed, 1 failed, 0 skipped",
			[]string{"undefined: undefined"}, "quiet"},
		{"TestMain fails", []string{"./main"}, "1 passed, 1 failed, 0 skipped", []string{"found a leak"},
			"quiet"},
		{"time limit", []string{"-timeout=100ms", "./stuck"}, "1 passed, 1 failed, 0 skipped",
			[]string{"stuck TestB", "timed out after 100ms"}, "quiet"},
		{"nothing ran", []string{"-run=NoSuchTest", "./pass"}, "0 passed, 0 failed, 0 skipped",
			[]string{"no test ran"}, "quiet"},
		{"nothing ran, with success", []string{"./quits"}, "0 passed, 0 failed, 0 skipped",
			[]string{"no test ran"}, "quiet"},
		{"wrong flag", []string{"-count=many", "./pass"}, "0 passed, 1 failed, 0 skipped",
			[]string{"many"}, "quiet"},
		{"no such folder", []string{"./nowhere"}, "0 passed, 1 failed, 0 skipped", []string{"./nowhere"},
			"quiet"},
		{"a test that prints an event", []string{"./forge"}, "0 passed, 1 failed, 0 skipped", nil,
			"quiet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			output, err := testScript(t.Context(), folder, tt.args...).CombinedOutput()
			got := string(output)
			good := strings.HasSuffix(tt.last, "0 failed, 0 skipped") && !strings.HasPrefix(tt.last,
				"0 passed")
			if (err == nil) != good {
				t.Errorf("exit: %v", err)
			}
			if !strings.HasSuffix("\n"+got, "\n"+tt.last+"\n") {
				t.Errorf("the last line is not %q", tt.last)
			}
			for _, want := range tt.has {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing", want)
				}
			}
			if strings.Contains(got, tt.hasNot) {
				t.Errorf("%q is there", tt.hasNot)
			}
			if t.Failed() {
				t.Logf("output:\n%s", got)
			}
		})
	}
}

// An interrupt ends a test that would never end, and fails the run.
func TestTestScriptInterrupted(t *testing.T) {
	folder := newToy(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	mark := filepath.Join(folder, "started")
	text := "package stuck\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestA(t *testing.T) {\n" +
		"\tos.WriteFile(\"" + mark + "\", nil, 0o600)\n\t<-make(chan int)\n}\n"
	if err := os.WriteFile(filepath.Join(folder, "stuck/a_test.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := testScript(ctx, folder, "./stuck")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// as a terminal does
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			if _, err := os.Stat(mark); err == nil {
				cancel()
			}
		}
	}()
	output, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("an interrupted run succeeded")
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the test did not start: %v", err)
	}
	t.Logf("%v\n%s", err, output)
}
