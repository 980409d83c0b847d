package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// What a shell's status is for a command that can't be started, and the base of that of one that a signal has killed
// (POSIX.1-2024, XCU 2.8.2).
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a command whose traffic goes through a tunnel made for it",
		ArgsUsage: "REMOTE_URL -- COMMAND [ARGUMENT]...",
		Flags: append(remoteFlags(), forwardFlag(), reverseFlag(), fastOpenFlag(),
			&cli.StringFlag{Name: "socks-auth", EnvVars: env("socks-auth"), Category: "listening",
				Usage: "ask the clients of an -R proxy for `USER:PASS`; better given by its variable, which other users can't see"}),
		Action: runRun,
	}
}

func runRun(c *cli.Context) error {
	shareProcessors()
	remote, argv, err := splitCommand(c)
	if err != nil {
		return err
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return startFailure(argv[0], err)
	}
	forwards, err := parseForwards(c.StringSlice("L"))
	if err != nil {
		return err
	}
	opts, err := loadRemoteOptions(c, remote)
	if err != nil {
		return err
	}
	if err := loadFastOpen(c, &opts.node); err != nil {
		return err
	}
	if opts.node.Log, err = newLogger(c); err != nil {
		return err
	}
	if !c.IsSet("log-level") {
		opts.node.Log = opts.node.Log.Level(zerolog.WarnLevel) // it shares standard error with the command
	}
	reverse, err := parseReverses(c, opts.node.Log)
	if err != nil {
		return err
	}
	opts.node.Reverse = len(reverse.specs) > 0
	secret := rand.Text() // 26 characters, 130 bits: other users of the machine can't guess it
	doors := &doors{reverse: *reverse}
	defer doors.close()
	if err := doors.openSocks("127.0.0.1:0", proxyUser+":"+secret, opts.node.Log); err != nil {
		return cannotListen("127.0.0.1:0", "the proxy's port", "", err)
	}
	if err := doors.openForwards(forwards); err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: program, Args: argv,
		Env:   proxyEnv(os.Environ(), doors.socksAddress(), secret),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	return runThrough(c.Context, opts, doors, cmd)
}

// splitCommand returns the remote's URL and the command with its arguments, which stand after "--".
func splitCommand(c *cli.Context) (remote string, argv []string, err error) {
	args := c.Args().Slice()
	switch at := slices.Index(args, "--"); {
	case len(args) == 0 || at == 0:
		return "", nil, usage(usageHint(c), "REMOTE_URL is missing")
	case at < 0 || at == len(args)-1:
		return "", nil, usage(usageHint(c), "no command after REMOTE_URL and --")
	case at > 1:
		return "", nil, usage(usageHint(c), "unexpected argument %q", args[1])
	}
	return args[0], args[2:], nil
}

// startFailure explains why a command can't be started, with the status that a shell has for it.
func startFailure(name string, err error) error {
	status := exitNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		status, err = exitNotFound, errors.New("not found")
	}
	return &Failure{status, "can't run " + name, plainCause(err), ""}
}

// proxyUser is the user name of the proxy's credential. The secret is the password.
const proxyUser = "culvert"

// direct is what a command reaches without the proxy: its own machine.
const direct = "localhost,127.0.0.1,::1"

// proxyEnv is environ with the variables that have programs use the proxy at address. They have no common form: some read
// those in capitals, some the others. The port is a proxy for SOCKS and HTTP: more programs know the latter, and all else
// needs the former, as socks5h, which leaves names to the remote to resolve.
func proxyEnv(environ []string, address, secret string) []string {
	proxy := func(scheme string) string {
		return (&url.URL{Scheme: scheme, User: url.UserPassword(proxyUser, secret), Host: address}).String()
	}
	env := slices.Clone(environ)
	for _, v := range []struct{ name, value string }{
		{"ALL_PROXY", proxy("socks5h")}, {"HTTP_PROXY", proxy("http")}, {"HTTPS_PROXY", proxy("http")}, {"NO_PROXY", direct},
	} {
		env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value) // the last of a name counts
	}
	return env
}

// runThrough makes the session, serves the doors while cmd runs, and returns cmd's status as an exitStatus.
func runThrough(ctx context.Context, opts *localOptions, doors *doors, cmd *exec.Cmd) error {
	signals := catchSignals(ctx)
	defer signals.stop()
	node, ended, stop, err := startLocal(signals.idle, opts)
	if err != nil {
		return err
	}
	if node == nil {
		return signals.interrupted()
	}
	if err := doors.reverse.listen(signals.idle, node, opts); err != nil {
		stop()
		<-ended
		if signals.idle.Err() != nil {
			return signals.interrupted()
		}
		return err
	}
	var watching, servers sync.WaitGroup
	serving, stopServing := context.WithCancel(ctx)
	failed := doors.serve(serving, node, &servers)
	watching.Go(func() {
		select {
		case err := <-ended: // the command goes on: what it does next without the tunnel is for it to say
			ended <- nil
			if err != nil {
				opts.node.Log.Error().Err(connectFailure(err, opts)).Msg("the tunnel is gone")
			}
		case err := <-failed:
			opts.node.Log.Error().Err(err).Msg("a listener broke")
		case <-serving.Done():
		}
	})
	err = signals.wait(cmd)
	defer context.AfterFunc(signals.idle, node.Abort)()
	stopServing()
	watching.Wait()
	doors.shutdown(&servers)
	stop()
	<-ended
	servers.Wait()
	return err
}

// signalRelay passes signals on to a command while it runs.
type signalRelay struct {
	idle context.Context // ends at a signal that comes while no command runs
	stop func()          // gives the signals up

	mu     sync.Mutex // guards all below
	child  *os.Process
	caught syscall.Signal // what has ended idle
}

// catchSignals begins to catch the signals that end a program.
func catchSignals(parent context.Context) *signalRelay {
	idle, cancel := context.WithCancel(parent)
	r := &signalRelay{idle: idle}
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) { // under nohup(1), say, the command is to ignore it too
			signal.Notify(signals, s)
		}
	}
	done := make(chan struct{})
	var catching sync.WaitGroup
	catching.Go(func() {
		for {
			select {
			case s := <-signals:
				if !r.relay(s.(syscall.Signal)) {
					cancel()
				}
			case <-done:
				return
			}
		}
	})
	r.stop = func() {
		signal.Stop(signals)
		close(done)
		catching.Wait()
		cancel()
	}
	return r
}

// relay is false when there is no command to pass the signal on to. What is typed on the terminal goes to the command
// without us.
func (r *signalRelay) relay(s syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.child == nil {
		r.caught = s
		return false
	}
	typed := s == syscall.SIGINT || s == syscall.SIGQUIT
	if !typed || !ownsTerminal() {
		r.child.Signal(s) // an error says that it has ended
	}
	return true
}

// interrupted is the failure of a command that was never started, because a signal came.
func (r *signalRelay) interrupted() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Failure{exitSignal + int(r.caught), "the command was not started", fmt.Errorf("%s came first", r.caught), ""}
}

// wait runs the command to its end and returns its status.
func (r *signalRelay) wait(cmd *exec.Cmd) error {
	r.mu.Lock()
	if r.caught != 0 {
		r.mu.Unlock()
		return r.interrupted()
	}
	err := cmd.Start()
	if err == nil {
		r.child = cmd.Process
	}
	r.mu.Unlock()
	if err != nil {
		return startFailure(cmd.Args[0], err)
	}
	err = cmd.Wait()
	r.mu.Lock()
	r.child = nil
	r.mu.Unlock()
	if cmd.ProcessState == nil {
		return &Failure{exitFailed, "can't wait for " + cmd.Args[0], err, ""}
	}
	return exitStatus(commandStatus(cmd.ProcessState))
}

// commandStatus is a command's exit status as a shell has it.
func commandStatus(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitSignal + int(w.Signal())
	}
	return state.ExitCode()
}
