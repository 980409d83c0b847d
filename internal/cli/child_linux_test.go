package cli

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// TestEndOf: how a child has ended is known, but left for whoever inherits it.
func TestEndOf(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]childEnd{
		"exit 0":       {},
		"exit 255":     {status: 255},
		"kill -9 $$":   {signal: syscall.SIGKILL},
		"kill -TERM 0": {signal: syscall.SIGTERM},
	} {
		cmd := exec.Command("sh", "-c", "read -r line; "+script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		hold, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if end := endOf(cmd.Process.Pid); end != nil {
			t.Errorf("%s: %v before it has ended", script, end)
		}
		hold.Close()
		testnet.Poll(t, time.Minute, "the child ends", func() bool {
			return endOf(cmd.Process.Pid) != nil
		})
		if end := endOf(cmd.Process.Pid); *end != want || end.failed() != (script != "exit 0") {
			t.Errorf("%s: %v, %t, want %v", script, end, end.failed(), &want)
		}
		cmd.Wait() // its error is how the child has ended
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if want.signal != 0 && status.Signal() != want.signal ||
			want.signal == 0 && status.ExitStatus() != want.status {
			t.Errorf("%s: then %v, want %v", script, cmd.ProcessState, &want)
		}
		if end := endOf(cmd.Process.Pid); end == nil || !end.failed() ||
			!strings.HasSuffix(end.Error(), "has ended") {
			t.Errorf("%s: %v of what nobody knows", script, end)
		}
	}
}
