package cli

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/status/control"
	"culvert/internal/takeover"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/policy"
)

// takeOverOption is the node whose listeners a remote takes.
type takeOverOption struct{ name string }

func (o *takeOverOption) define(s *flags.Set) {
	s.FromCommandLine(func() {
		s.String(&o.name, "take-over", "", "take the listeners and the name of the remote `NAME`, "+
			"which runs here with the same key, and let that drain")
	})
}

// takeOver is taking over another process. A nil one takes over nothing; all methods may be called
// on it.
type takeOver struct {
	name  string
	taker *takeover.Taker
}

// begin asks the other process for its listeners, which the flags have to name.
func (o *takeOverOption) begin(ctx context.Context, key certs.PublicKey) (*takeOver, error) {
	if o.name == "" {
		return nil, nil
	}
	if err := control.CheckName(o.name); err != nil {
		return nil, &flags.ValueError{
			Flag: "take-over", Value: o.name, Form: err.Error(), Example: "remote-1",
		}
	}
	client, err := control.Open(o.name)
	if err != nil {
		return nil, nodeFailure(o.name, err)
	}
	defer client.Close()
	conn, err := client.TakeOver(ctx, control.TakeOver{PublicKey: key.String(), PID: os.Getpid()})
	if err != nil {
		return nil, nodeFailure(o.name, err)
	}
	taker, err := takeover.Take(conn)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't take over "+o.name, err, "")
	}
	t := &takeOver{o.name, taker}
	if err := t.adopt(); err != nil {
		t.close()
		return nil, exit.Fail(exit.Failed, "can't take over "+o.name, err, "")
	}
	return t, nil
}

// adopt makes the listeners those that the flags find.
func (t *takeOver) adopt() error {
	sockets, _ := inherited() // refuseLeft reports the error
	for i, file := range t.taker.Files {
		ln, err := net.FileListener(file) // which has a duplicate
		file.Close()
		if err != nil {
			return err
		}
		address := t.taker.Offer.Listen[i]
		path, isUnix := strings.CutPrefix(address, policy.UnixPrefix)
		isUnix = isUnix && !slices.Contains(t.taker.Offer.Kept, address)
		if own, ok := ln.(*net.UnixListener); ok && isUnix {
			ln = policy.AdoptUnix(own, path)
		}
		sockets.Add(ln)
	}
	for name, value := range t.taker.Offer.Manager {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return os.Unsetenv("WATCHDOG_PID") // the other process's
}

// state makes the other process stop accepting, and completes the configuration of this one.
func (t *takeOver) state(cfg *tunnel.RemoteConfig) error {
	if t == nil {
		return nil
	}
	state, err := t.taker.Begin()
	if err == nil {
		cfg.Replay, err = protocol.NewReplayCacheFrom(state.Replay)
	}
	if err != nil {
		return exit.Fail(exit.Failed, "can't take over "+t.name, err, "")
	}
	cfg.Predecessor = t.taker
	t.taker.Follow(cfg.Replay.Claim)
	return nil
}

// serving tells the other process that this one accepts on the listeners.
func (t *takeOver) serving(listeners []net.Listener) error {
	if err := t.taker.Serving(); err != nil {
		return exit.Fail(exit.Failed, "can't take over "+t.name, err, "")
	}
	for _, ln := range listeners {
		keepFile(ln, false)
	}
	return nil
}

func (t *takeOver) close() {
	if t != nil {
		t.taker.Close()
	}
}
