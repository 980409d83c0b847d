//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"culvert/internal/testnet/link"
	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/proc"
)

const (
	// targetStart bounds the start of the target.
	targetStart = 20 * time.Second

	// overtime is how long a measurement may take beyond its own durations: for connecting, and for
	// the timeouts within it.
	overtime = 90 * time.Second

	// Before the next measurement begins, the link must carry less than quietBytes, and the programs
	// use less than quietCPU seconds, for quietTime. quietPatience bounds the wait for that.
	quietTime     = 300 * time.Millisecond
	quietBytes    = 2000
	quietCPU      = 0.03
	quietPatience = 2 * time.Minute

	// firstPort is the target's first port where it has a host of its own.
	firstPort = 9000
)

// site is where a case is measured: two hosts, the link between them if any, and the target.
type site struct {
	near, far peer.Host
	link      *link.Link // nil: both hosts are this machine
	target    *proc.Process
	first     int // port of the target
	page      int // how many pages were loaded
	self      string
	starter   *proc.Starter
}

// newSite sets up a case's hosts and starts the target. The caller must close it.
func newSite(ctx context.Context, starter *proc.Starter, self string,
	c benchCase) (_ *site, err error) {
	s := &site{self: self, starter: starter, first: firstPort}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.near.Address, s.far.Address = "127.0.0.1", "127.0.0.1"
	if c.link != nil {
		config := *c.link
		config.Control = c.control
		if s.link, err = link.New(config); err != nil {
			return nil, err
		}
		s.near = peer.Host{Namespace: s.link.A.Namespace, Address: s.link.A.Addr.String()}
		s.far = peer.Host{Namespace: s.link.B.Namespace, Address: s.link.B.Addr.String()}
	} else {
		if s.first, err = peer.FreePorts(1 + c.ports*c.rounds); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, targetStart)
	defer cancel()
	args := []string{"target", "-host", s.far.Address, "-first", strconv.Itoa(s.first), "-count",
		strconv.Itoa(1 + c.ports*c.rounds)}
	if c.page > 0 {
		args = append(args, "-page", strconv.Itoa(pagePort))
	}
	s.target, err = starter.Start("target", s.far.Command(self, args...))
	if err != nil {
		return nil, err
	}
	_, err = s.target.Line(ctx)
	return s, err
}

func (s *site) close() error {
	if s.target != nil {
		s.target.Stop()
	}
	if s.link == nil {
		return nil
	}
	return s.link.Close()
}

// address returns the target's main address.
func (s *site) address() string { return s.far.Address + ":" + strconv.Itoa(s.first) }

// load runs a request in a process on the near host.
func (s *site) load(ctx context.Context, request load.Request) (load.Values, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, request.Warmup+2*request.Window+overtime,
		errors.New("took too long"))
	defer cancel()
	input, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	output, err := s.starter.Run(ctx, "load", s.near.Command(s.self, "load"), input)
	if err != nil {
		return nil, err
	}
	var values load.Values
	if err := json.Unmarshal(output, &values); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return values, nil
}

// startPeer starts a peer in a folder of its own and waits until connections go through. stop
// terminates it.
func (s *site) startPeer(ctx context.Context, name string, programs peer.Programs,
	c benchCase) (p *peer.Peer, stop func(), err error) {
	folder, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return nil, nil, err
	}
	p, err = peer.Start(ctx, name, peer.Setting{
		Starter: s.starter, Programs: programs, Near: s.near, Far: s.far, Proxied: c.proxied,
		Folder: folder, Users: c.users,
	})
	if err != nil {
		os.RemoveAll(folder)
		return nil, nil, err
	}
	stop = func() {
		p.Stop()
		os.RemoveAll(folder)
	}
	if _, err := s.load(ctx,
		load.Request{Kind: "ready", Socks: p.Socks, Target: s.address()}); err != nil {
		stop()
		return nil, nil, err
	}
	return p, stop, nil
}

// quiet waits until the previous measurement has died down on the link, in the target and in the
// peers. What is left of it after quietPatience would slow the next one down.
func (s *site) quiet(ctx context.Context, peers []int) error {
	deadline := time.Now().Add(quietPatience)
	programs := proc.Tree(append(peers, s.target.PID())...)
	for {
		before, used := s.carried(), programs.CPU()
		select {
		case <-time.After(quietTime):
		case <-ctx.Done():
			return ctx.Err()
		}
		if s.carried()-before < quietBytes && programs.CPU()-used < quietCPU {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the measurement before still goes on after %v", quietPatience)
		}
	}
}

// carried returns the number of bytes that the link has carried.
func (s *site) carried() uint64 {
	if s.link == nil {
		return 0
	}
	a, b := s.link.Stats()
	return a.Bytes + b.Bytes
}
