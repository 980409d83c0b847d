// Command testsum runs go test with the arguments it is given, prints what a
// person needs from it, and ends with one line of totals:
//
//	testsum [-heartbeat DURATION] [--] [go test's arguments]
//
// It prints one line a package, the whole output of each test that failed or
// was skipped, and a line each heartbeat while nothing else is printed. Then
// the names of failed and skipped tests again, and, alone on the last line,
//
//	N passed, N failed, N skipped
//
// Tests, subtests, examples and fuzz seeds count one each. A package that
// fails without a failed test (it does not build, its TestMain fails) counts
// as one failure. A package without test files counts as nothing.
//
// The exit status is that of go test when that is not 0, and otherwise 1 when
// a test was skipped or none ran at all: a check that did not run shows
// nothing.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// stopGrace is how long go test gets to end after an interrupt before it is
// killed; it first has to stop the test binaries.
const stopGrace = 10 * time.Second

func main() {
	heartbeat := flag.Duration("heartbeat", 30*time.Second, "longest `time` without a line of output")
	flag.Parse()
	if *heartbeat <= 0 {
		fmt.Fprintln(os.Stderr, "testsum: -heartbeat must be more than 0")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, flag.Args(), *heartbeat, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

// run runs go test -json with args and writes the summary to out; what go
// itself says (downloads, wrong flags) goes to stderr. It returns the exit
// status to report, and an error only when go could not be run. When ctx ends,
// go test is interrupted, and what had run by then is summed up.
func run(ctx context.Context, args []string, heartbeat time.Duration, out, stderr io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopGrace
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}

	lines := make(chan []byte)
	go readLines(stdout, lines)
	sum := newSummary(out, time.Now())
	follow(sum, lines, heartbeat)

	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return 0, err
	}
	return sum.finish(cmd.ProcessState.ExitCode()), nil
}

// readLines sends the lines of r, and closes lines at its end. It stops when
// go test and all that inherited its output have closed r.
func readLines(r io.Reader, lines chan<- []byte) {
	defer close(lines)
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			lines <- line
		}
		if err != nil {
			return
		}
	}
}

// follow feeds sum until lines is closed, and has it say that it is alive
// after each heartbeat without a line.
func follow(sum *summary, lines <-chan []byte, heartbeat time.Duration) {
	timer := time.NewTimer(heartbeat)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return
			}
			if sum.line(line, time.Now()) {
				timer.Reset(heartbeat)
			}
		case now := <-timer.C:
			sum.heartbeat(now)
			timer.Reset(heartbeat)
		}
	}
}
