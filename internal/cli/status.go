package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/state"
	"culvert/internal/status/control"
	"culvert/internal/status/table"
)

// watchPause is the time between two pictures of --watch.
const watchPause = time.Second

type showOptions struct {
	name  string // "" to list all nodes
	watch bool
	json  bool
}

func statusCommand() *flags.Command {
	o := &showOptions{}
	return &flags.Command{
		Name:  "status",
		Usage: "list the nodes that run here, or show what one is doing",
		Examples: []string{
			"culvert status",
			"culvert status --watch local-1",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *showOptions) define(s *flags.Set) {
	nodeArgument(s, &o.name).Optional()
	s.Group("output")
	s.Bool(&o.watch, "watch", "show it again each second, until interrupted")
	s.Bool(&o.json, "json", "print JSON: see docs/status.md")
}

// nodeArgument defines the name of a node.
func nodeArgument(s *flags.Set, name *string) *flags.Argument {
	return s.Argument("NAME", func(text string) error {
		*name = text
		return control.CheckName(text)
	}).Candidates(func(func(string) string) []string {
		names, _ := control.Names() // none
		return names
	})
}

func (o *showOptions) run(ctx context.Context) error {
	if !o.watch {
		return o.show(ctx, os.Stdout)
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	screen := table.NewScreen(os.Stdout, os.Getenv("TERM") != "dumb" && enableColor(os.Stdout))
	for {
		err := o.show(ctx, screen)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := screen.Show(); err != nil {
			return cannotWrite(err)
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// show writes one picture.
func (o *showOptions) show(ctx context.Context, w io.Writer) error {
	if o.name == "" {
		return o.list(ctx, w)
	}
	client, err := control.Open(o.name)
	if err != nil {
		return nodeFailure(o.name, err)
	}
	defer client.Close()
	s, err := client.State(ctx)
	switch {
	case o.watch && ctx.Err() == nil && isSilent(o.name, err):
		if o.json {
			w = os.Stderr
		}
		_, err = fmt.Fprintln(w, "no answer from", o.name)
		return err
	case err != nil:
		return nodeFailure(o.name, err)
	case o.json:
		return writeJSON(w, s)
	}
	return table.Node(w, s, table.Width(os.Stdout))
}

// list shows the nodes that answer.
func (o *showOptions) list(ctx context.Context, w io.Writer) error {
	nodes, silent, err := running(ctx)
	if err != nil {
		return exit.Fail(exit.Failed, "can't look for nodes", err, "")
	}
	if !o.json {
		return table.List(w, nodes, silent, table.Width(os.Stdout))
	}
	err = writeJSON(w, state.NewList(nodes, silent))
	if err == nil && len(silent) > 0 && !o.watch { // which goes on, until they answer
		err = exit.Fail(exit.Failed, "no answer from "+strings.Join(silent, ", "), nil, "")
	}
	return err
}

// isSilent reports whether an error is that of a node that runs and doesn't answer.
func isSilent(name string, err error) bool {
	_, refused := errors.AsType[*control.Error](err)
	return err != nil && !refused && !errors.Is(err, control.ErrUnknown) && control.IsRunning(name)
}

// running returns the states of the nodes that answer, and the names of those that don't, each in
// the order of the names.
func running(ctx context.Context) (nodes []state.State, silent []string, err error) {
	names, err := control.Names()
	if err != nil {
		return nil, nil, err
	}
	answers := make([]*state.State, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() {
			client, err := control.Open(name)
			if err != nil {
				return
			}
			defer client.Close()
			if s, err := client.State(ctx); err == nil {
				answers[i] = &s
			}
		})
	}
	asking.Wait()
	for i, s := range answers {
		switch {
		case s != nil:
			nodes = append(nodes, *s)
		case control.IsRunning(names[i]): // else it has ended
			silent = append(silent, names[i])
		}
	}
	return nodes, silent, nil
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// nodeFailure explains why a node did not do what it was asked.
func nodeFailure(name string, err error) error {
	refusal, refused := errors.AsType[*control.Error](err)
	switch {
	case refused:
		code := refusal.Status
		if code == exit.OK {
			code = exit.Failed
		}
		return exit.Fail(code, name+": "+refusal.What, nil, refusal.Hint)
	case errors.Is(err, control.ErrNotRunning):
		return exit.Fail(exit.Failed, fmt.Sprintf("no node %q is running", name), nil,
			"culvert status lists those that are")
	case errors.Is(err, control.ErrFolder):
		return exit.Fail(exit.Failed, "can't look for "+name, err,
			"the folder has to be this user's alone; root also sees those of services")
	case errors.Is(err, control.ErrUnknown):
		return exit.Fail(exit.Usage, name+": "+control.ErrUnknown.Error(), nil,
			"culvert status "+name+" shows its version; stop it, and start it")
	}
	return exit.Fail(exit.Failed, "no answer from "+name, err, "")
}
