//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culvert/internal/state"
	"culvert/internal/testnet"
)

// restarted is a remote that is restarted while it is in use: its program can be replaced, as by a
// package.
type restarted struct {
	*takeOver
	program string // its path, which is a link
	started []int  // processes
}

// startRestarted starts the remote, whose log is in a file since the pipe to this test may be
// closed once the first process has ended.
func startRestarted(t *testing.T, flags ...string) *restarted {
	t.Helper()
	o := &restarted{takeOver: newTakeOver(t), program: filepath.Join(t.TempDir(), "culvert")}
	o.install(program)
	o.args = append(o.args, "--log-file", filepath.Join(t.TempDir(), "log"))
	o.remote = o.startWith(o.program, "remote", append(flags, "--name", "exit")...)
	o.note()
	t.Cleanup(func() {
		for _, pid := range o.started {
			syscall.Kill(pid, syscall.SIGKILL) // if it has not ended
		}
	})
	o.startLocal("ws")
	return o
}

// install makes the remote's program a link to another one.
func (o *restarted) install(path string) {
	o.t.Helper()
	next := o.program + ".next"
	if err := os.Symlink(path, next); err != nil {
		o.t.Fatal(err)
	}
	if err := os.Rename(next, o.program); err != nil {
		o.t.Fatal(err)
	}
}

// note notes the process whose number is in the file, and which has the name: another one than
// those before.
func (o *restarted) note() (pid int) {
	o.t.Helper()
	text, err := os.ReadFile(o.pid)
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		o.t.Fatal(err)
	}
	if slices.Contains(o.started, pid) {
		o.t.Errorf("the file has the number of one of the processes %v", o.started)
	}
	o.started = append(o.started, pid)
	var s state.State
	text = []byte(must(o.t, patience,
		command(o.env, o.t.TempDir(), program, "status", "--json", "exit")))
	if err := json.Unmarshal(text, &s); err != nil || s.Node.PID != pid {
		o.t.Errorf("exit is process %d, %v, want %d", s.Node.PID, err, pid)
	}
	return pid
}

// script makes the remote's program a script.
func (o *restarted) script(text string) {
	o.t.Helper()
	path := filepath.Join(o.t.TempDir(), fmt.Sprint("script-", len(text)))
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		o.t.Fatal(err)
	}
	o.install(path)
}

func (o *restarted) restart() result {
	o.t.Helper()
	return run(o.t, bulkTime, command(o.env, o.t.TempDir(), program, "restart", "exit"))
}

// TestRestart restarts a remote twice under load: nobody is refused, and open streams go on in the
// process that they began in. Before, programs are installed that don't take over; the remote goes
// on then.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"foreground": nil, "background": {"-f"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			startRestarted(t, flags...).test()
		})
	}
}

func (o *restarted) test() {
	t := o.t
	stream := []net.Conn{testnet.Dial(t, o.local.forwards[0], bulkTime)}
	o.echo(stream)
	for script, why := range map[string]string{
		"exit 7": "the new process has ended: exit status 7",
		"exit 0": "the new process has ended: exit status 0",
		`exec "` + program + `" "$@" --no-such-flag`: "the new process has ended: exit status 2",
	} {
		o.script(script)
		if r := o.restart(); r.status != 1 || !strings.Contains(r.stderr, why) ||
			!strings.Contains(r.stderr, "the old process goes on") {
			t.Errorf("%s: status %d\n%s", script, r.status, r.stderr)
		}
	}
	o.echo(stream)
	connected, fetched := o.connectAlways(), o.fetchAlways()
	for range 2 {
		o.script(`echo "$@" >` + o.program + `.args; exec "` + program + `" "$@"`)
		if r := o.restart(); r.status != 0 || r.stdout+r.stderr != "" {
			t.Fatalf("status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		o.note()
		args, err := os.ReadFile(o.program + ".args")
		if n := bytes.Count(args, []byte("--take-over exit")); n != 1 || err != nil {
			t.Errorf("the new process has the arguments %s, %v", args, err)
		}
		o.relay.Cut()
		o.echo(stream)
	}
	if c, f := connected(), fetched(); c == 0 || f == 0 {
		t.Errorf("%d connections and %d fetches meanwhile", c, f)
	}
	stream[0].Close()
	for i, pid := range o.started[:2] {
		testnet.Poll(t, bulkTime, fmt.Sprintf("process %d has ended", i), func() bool {
			return syscall.Kill(pid, 0) != nil || zombie(pid)
		})
	}
	must(t, patience, curl(t, o.local.socks, patience, o.web.URL+"/random/10"))
	must(t, bulkTime, command(o.env, t.TempDir(), program, "stop", "exit"))
}

// TestRestartedFails: when the process that has taken over fails, the one before ends with a
// failing status at once, so that a service manager starts another. When that is stopped, streams
// of the one before go on.
func TestRestartedFails(t *testing.T) {
	t.Parallel()
	for name, failing := range map[string]bool{"killed": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := startRestarted(t)
			stream := testnet.Dial(t, o.local.forwards[0], bulkTime)
			o.echo([]net.Conn{stream})
			if r := o.restart(); r.status != 0 {
				t.Fatalf("status %d\n%s", r.status, r.stderr)
			}
			next, status := o.note(), 1
			if failing {
				syscall.Kill(next, syscall.SIGKILL)
			} else {
				status = 0
				syscall.Kill(next, syscall.SIGTERM)
				o.local.stderr.waitLine(t, o.local.process, "remote can't be reached", patience)
				o.echo([]net.Conn{stream})
				stream.Close()
			}
			if got := o.remote.wait(stopTime); got != status {
				t.Errorf("status %d, want %d\n%s", got, status, o.remote.stderr)
			}
			if text := o.remote.stderr.String(); failing && !strings.Contains(text, "streams cut short") {
				t.Errorf("nobody is told why: %s", text)
			}
		})
	}
}

// zombie reports whether a process has ended, and its parent has not asked about that.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(text, []byte(") Z "))
}

// TestRestartRefused: a local can't be restarted, nor can what its container would end with.
func TestRestartRefused(t *testing.T) {
	t.Parallel()
	o := startTakeOver(t, false)
	alone := t.TempDir()
	needRoot(t, "it makes a process namespace")
	first := command(o.env, alone, needProgram(t, "unshare"), append([]string{"--fork", "--pid",
		"--kill-child", program}, remoteArgs(newIdentity(t), "--name", "first", "--allow-anyone")...)...)
	startNode(t, "first process", first)
	const tini = `ln -s "$(command -v sh)" tini; ` +
		`exec unshare --fork --pid --mount-proc --kill-child ./tini -c '"$@" & wait $!' tini "$@"`
	child := command(o.env, t.TempDir(), "sh", append([]string{"-c", tini, "sh", program},
		remoteArgs(newIdentity(t), "--name", "child", "--allow-anyone")...)...)
	startNode(t, "child of an init", child)
	for name, want := range map[string]struct {
		status int
		why    string
	}{
		"local-1": {1, "only a remote can be restarted"},
		"first":   {2, "it is the first process of its container"},
		"child":   {2, "the init of its container runs it"},
		"nobody":  {1, "no node \"nobody\" is running"},
	} {
		r := run(t, patience, command(o.env, t.TempDir(), program, "restart", name))
		if r.status != want.status || !strings.Contains(r.stderr, want.why) {
			t.Errorf("%s: status %d\n%s", name, r.status, r.stderr)
		}
	}
	must(t, patience, command(o.env, t.TempDir(), program, "stop", "first"))
	must(t, patience, command(o.env, t.TempDir(), program, "stop", "child"))
}
