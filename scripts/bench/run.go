//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/proc"
	"culvert/scripts/bench/result"
)

// runner measures cases.
type runner struct {
	options  options
	results  *result.Results
	starter  *proc.Starter
	self     string // the path of this program
	progress *progress
}

func newRunner(o options, results *result.Results) (*runner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &runner{options: o, results: results, starter: proc.NewStarter(), self: self}, nil
}

func (r *runner) close() { r.starter.Close() }

// run measures the cases one after another, and stores the results after each. It returns the new
// results, and an error for the cases that could not be measured.
func (r *runner) run(ctx context.Context, cases []benchCase) (measured *result.Results, err error) {
	measured = result.New()
	cases = r.possible(cases)
	run := describe(ctx, r.options)
	r.progress = newProgress(os.Stderr, cases)
	for _, c := range cases {
		samples, failure := r.measure(ctx, c)
		if failure != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.name, failure))
			if ctx.Err() != nil {
				return measured, err
			}
			r.progress.leave(c, failure)
			continue
		}
		done := &result.Case{Run: run, Samples: samples}
		r.results.Cases[c.name], measured.Cases[c.name] = done, done
		if r.options.peers != "" {
			continue
		}
		if err := r.results.Write(r.options.results); err != nil {
			return measured, err
		}
	}
	return measured, err
}

// possible returns the cases that this user can measure.
func (r *runner) possible(cases []benchCase) []benchCase {
	if os.Geteuid() == 0 {
		return cases
	}
	var left []benchCase
	var out []string
	for _, c := range cases {
		if c.link == nil {
			left = append(left, c)
		} else {
			out = append(out, c.name)
		}
	}
	if len(out) > 0 {
		fmt.Fprintln(os.Stderr, "bench: left out, because links need root to create network namespaces:",
			strings.Join(out, ", "))
	}
	return left
}

// measure measures one case: in each round every peer takes its turn.
func (r *runner) measure(ctx context.Context, c benchCase) (samples []result.Sample, err error) {
	s, err := newSite(ctx, r.starter, r.self, c)
	if err != nil {
		return nil, err
	}
	running := &runningPeers{}
	defer func() {
		running.stop()
		err = errors.Join(err, s.close())
	}()
	for round := range c.rounds {
		if !c.fresh && (round == 0 || c.renew > 0 && round%c.renew == 0) {
			running.stop()
			running = r.startPeers(ctx, s, c)
		}
		for i, name := range c.peers {
			if round%2 == 1 { // so that no peer always follows the same one
				name = c.peers[len(c.peers)-1-i]
			}
			r.progress.begin(c, name, round)
			began := time.Now()
			values, err := load.Values(nil), running.broken[name]
			if err == nil {
				err = s.quiet(ctx, running.pids)
			}
			if err == nil {
				values, err = r.one(ctx, s, c, name, running.peers[name], round)
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			sample := result.Sample{Peer: name, Round: round, Values: values}
			if err != nil {
				sample.Failed = err.Error()
			}
			samples = append(samples, sample)
			r.progress.end(c, sample, time.Since(began))
		}
	}
	return samples, nil
}

// runningPeers are the peers of a case that stay for more than one measurement.
type runningPeers struct {
	peers  map[string]*peer.Peer
	broken map[string]error // why the others could not be started
	pids   []int
	stops  []func()
}

func (r *runner) startPeers(ctx context.Context, s *site, c benchCase) *runningPeers {
	running := &runningPeers{peers: make(map[string]*peer.Peer), broken: make(map[string]error)}
	for _, name := range c.peers {
		p, stop, err := s.startPeer(ctx, name, r.options.programs, c)
		if err != nil {
			running.broken[name] = err
			continue
		}
		running.stops = append(running.stops, stop)
		running.peers[name] = p
		running.pids = append(running.pids, p.PIDs...)
	}
	return running
}

// stop ends the peers, the last one first.
func (r *runningPeers) stop() {
	for _, stop := range slices.Backward(r.stops) {
		stop()
	}
	r.stops = nil
}

// one measures one peer once. The peer is already running unless the case starts a fresh one.
func (r *runner) one(ctx context.Context, s *site, c benchCase, name string, p *peer.Peer,
	round int) (load.Values, error) {
	if c.fresh {
		fresh, stop, err := s.startPeer(ctx, name, r.options.programs, c)
		if err != nil {
			return nil, err
		}
		defer stop()
		p = fresh
	}
	request := c.request
	request.Socks, request.Target, request.PIDs = p.Socks, s.address(), p.PIDs
	request.Remote, request.RemoteKey, request.Clients = p.Remote, p.RemoteKey, p.Users
	for i := range c.ports {
		request.Ports = append(request.Ports, s.first+1+round*c.ports+i)
	}
	if c.lone && name == peer.None {
		request.Streams = 1
	}
	if c.page > 0 {
		return s.loadPages(ctx, r.options.chromium, request, c.page)
	}
	return s.load(ctx, request)
}
