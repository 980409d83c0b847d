package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/status/control"
	"culvert/tunnel/policy"
)

// stopCommand and reloadCommand do to a node what signals do.
func stopCommand() *flags.Command {
	return nodeCommand("stop", "make a node drain and end, as SIGTERM does, and wait until it has",
		(*control.Client).Stop)
}

func reloadCommand() *flags.Command {
	drain := false
	c := nodeCommand("reload",
		"make a remote read its files again, or a local connect again, as SIGUSR1 does",
		func(client *control.Client, ctx context.Context) error {
			if drain {
				return client.ReloadAndMove(ctx)
			}
			return client.Reload(ctx)
		})
	c.Examples[1] = "culvert reload --drain remote-1"
	argument := c.Define
	c.Define = func(s *flags.Set) {
		argument(s)
		s.Group("reload")
		s.FromCommandLine(func() {
			s.Bool(&drain, "drain", "then make the clients of a remote connect again, one after the "+
				"other; open streams go on in the old sessions for its --drain-timeout")
		})
	}
	return c
}

func restartCommand() *flags.Command {
	c := nodeCommand("restart", "replace a running remote with the installed version; new clients "+
		"are served throughout, and the old process drains", restart)
	c.Examples = []string{"culvert restart remote-1", "culvert restart exit"}
	return c
}

const (
	// replacedTimeout bounds how long a process that serves may take to get the name of the one
	// before. It writes its number to a file first.
	replacedTimeout = 10 * time.Second

	// replacedInterval is how often its name is looked for.
	replacedInterval = 20 * time.Millisecond
)

// restart returns once whoever asks for the node gets the new process: its number is then in the
// file of --pid-file, and known to the service manager. Where the old one is too busy to tell its
// own number, it returns once the new one serves.
func restart(client *control.Client, ctx context.Context) error {
	before, unknown := client.State(ctx)
	if err := client.Restart(ctx); err != nil || unknown != nil {
		return err
	}
	name := before.Node.Name
	tick := time.NewTicker(replacedInterval)
	defer tick.Stop()
	timeout := time.NewTimer(replacedTimeout)
	defer timeout.Stop()
	for {
		if pid, err := pidOf(ctx, name); err == nil && pid != before.Node.PID {
			return nil
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			return &control.Error{
				What: fmt.Sprintf("the new process serves, but not as %s after %v", name, replacedTimeout),
				Hint: "culvert status lists it, unless its configuration has control = \"none\"",
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pidOf returns the number of a node's process.
func pidOf(ctx context.Context, name string) (int, error) {
	client, err := control.Open(name)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	s, err := client.State(ctx)
	return s.Node.PID, err
}

func nodeCommand(
	word, usage string, ask func(*control.Client, context.Context) error,
) *flags.Command {
	var name string
	return &flags.Command{
		Name:  word,
		Usage: usage,
		Examples: []string{
			"culvert " + word + " local-1",
			"culvert " + word + " remote-1",
		},
		Define: func(s *flags.Set) { nodeArgument(s, &name) },
		Run: func(ctx context.Context) error {
			return withNode(ctx, name, func(ctx context.Context, client *control.Client) error {
				return ask(client, ctx)
			})
		},
	}
}

// withNode calls act with a client of a node, until it returns or the user interrupts it.
func withNode(
	ctx context.Context, name string, act func(context.Context, *control.Client) error,
) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	client, err := control.Open(name)
	if err != nil {
		return nodeFailure(name, err)
	}
	defer client.Close()
	err = act(ctx, client)
	switch {
	case ctx.Err() != nil:
		return exit.Status(exitSignal + int(syscall.SIGINT))
	case err != nil:
		return nodeFailure(name, err)
	}
	return nil
}

// interruptible returns a context that ends when the user interrupts the command.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// forwardCommand changes the forwards of a running local.
func forwardCommand() *flags.Command {
	return &flags.Command{
		Name:  "forward",
		Usage: "add forwards to a running local, or cancel them",
		Examples: []string{
			"culvert forward add local-1 -L 8022:git.example:22",
			"culvert forward cancel local-1 -L 8022:git.example:22",
		},
		Commands: []*flags.Command{
			(&changeOptions{act: addForward}).command("add",
				"add forwards to a running local, and print where they listen"),
			(&changeOptions{act: cancelForward}).command("cancel",
				"end the listeners of forwards, whose connections go on"),
		},
	}
}

// changeOptions are forwards to add or to cancel.
type changeOptions struct {
	name     string
	forwards []string
	reverses []string
	proxies  []string
	act      func(context.Context, *control.Client, control.Forward) error
}

func (o *changeOptions) command(word, usage string) *flags.Command {
	call := "culvert forward " + word + " local-1"
	return &flags.Command{
		Name:     word,
		Usage:    usage,
		Examples: []string{call + " -L 8022:git.example:22", call + " -D 1081 -R 8080:localhost:80"},
		Define:   o.define,
		Run:      o.run,
	}
}

func (o *changeOptions) define(s *flags.Set) {
	nodeArgument(s, &o.name)
	s.Group("forwards")
	s.FromCommandLine(func() {
		s.Strings(&o.forwards, "L", nil, "a port that is forwarded to a target as the remote sees "+
			"it: `FORWARD` is as for culvert local -L; repeatable")
		s.Strings(&o.reverses, "R", nil, "a port of the remote: `REVERSE` is as for culvert local "+
			"-R; repeatable")
		s.Strings(&o.proxies, "D", nil, "a SOCKS and HTTP proxy on `ADDR`, as for culvert local -D; "+
			"repeatable")
	})
}

func (o *changeOptions) run(ctx context.Context) error {
	var asked []control.Forward
	for _, flag := range []struct {
		kind  string
		specs []string
	}{
		{control.ForwardLocal, o.forwards},
		{control.ForwardReverse, o.reverses},
		{control.ForwardSocks, o.proxies},
	} {
		for _, spec := range flag.specs {
			f := control.Forward{Kind: flag.kind, Spec: spec}
			if flag.kind != control.ForwardReverse { // whose socket is the remote's
				f.Spec = absoluteSocket(spec)
			}
			if _, err := parseControlled(f); err != nil {
				return err
			}
			asked = append(asked, f)
		}
	}
	if len(asked) == 0 {
		return exit.Usagef("such as -L 8022:localhost:22", "no forward is given")
	}
	return withNode(ctx, o.name, func(ctx context.Context, client *control.Client) error {
		for _, f := range asked {
			if err := o.act(ctx, client, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// absoluteSocket returns an address to listen on, or a forward that begins with one, that doesn't
// depend on the folder of a process if it is a unix socket: a node has another than the command
// that asks it.
func absoluteSocket(spec string) string {
	path, isUnix := strings.CutPrefix(spec, policy.UnixPrefix)
	dir, err := os.Getwd()
	if !isUnix || filepath.IsAbs(path) || err != nil || strings.Contains(dir, ":") {
		return spec
	}
	return policy.UnixPrefix + filepath.ToSlash(dir) + "/" + path
}

func addForward(ctx context.Context, client *control.Client, f control.Forward) error {
	address, err := client.AddForward(ctx, f)
	if err == nil {
		_, err = fmt.Println(address)
	}
	return err
}

func cancelForward(ctx context.Context, client *control.Client, f control.Forward) error {
	return client.CancelForward(ctx, f)
}
