//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/internal/testnet/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The hosts are usable under the names and addresses of the ready line, and are removed at exit.
func TestRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: it creates network namespaces")
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, link.Config{Delay: time.Millisecond, Rate: 1e6}, write)
		write.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(read)
	lines.Scan()
	ready := strings.Fields(lines.Text())
	if len(ready) != 5 || ready[0] != "ready" {
		t.Fatalf("ready line %q: %v", lines.Text(), <-ended)
	}
	for i := 1; i < len(ready); i += 2 {
		output, err := exec.Command("ip", "-n", ready[i], "addr", "show").CombinedOutput()
		if err != nil || !strings.Contains(string(output), "inet "+ready[i+1]+"/") {
			t.Errorf("%s: %v: %s", ready[i], err, output)
		}
	}
	stop()
	var figures int
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Packets:0 ") {
			figures++
		}
	}
	if err := <-ended; err != nil || figures != 2 {
		t.Errorf("%d lines with figures, %v", figures, err)
	}
	if err := exec.Command("ip", "-n", ready[1], "addr").Run(); err == nil {
		t.Error("the namespace is still there")
	}
}
