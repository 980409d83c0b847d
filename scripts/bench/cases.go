//go:build linux

package main

import (
	"path"
	"slices"
	"strings"
	"time"

	"culvert/internal/testnet/link"
	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
)

// benchCase is one measurement, for which the peers take turns.
type benchCase struct {
	name    string
	title   string
	peers   []string
	rounds  int
	link    *link.Config  // between the near and the far host; nil: both are this machine
	control string        // congestion control of both hosts of a link; empty: the system's
	proxied bool          // HAProxy runs in front of the far end
	fresh   bool          // peers are restarted for each measurement
	renew   int           // peers are restarted after so many rounds; 0: never
	lone    bool          // no proxy moves one stream, however many the others do
	request load.Request  // what is measured, without the addresses
	ports   int           // new ports of the target for each round
	users   int           // whose sessions the load makes, with peer.CulvertUsers
	page    int           // loads of a page in a browser, during the request's bulk transfers
	extra   time.Duration // beyond the request's own durations, for the first estimate
}

// usual is how many rounds a case has, for medians that mean something.
const usual = 5

// Peers of the cases: not every peer makes sense in every case.
var (
	everyone = []string{peer.None, peer.Culvert, peer.OpenSSHGCM, peer.OpenSSH, peer.XrayVLESS,
		peer.XrayVMess}
	tunnels  = everyone[1:]
	direct   = []string{peer.None, peer.Culvert, peer.OpenSSHGCM}
	overHTTP = []string{peer.Culvert, peer.XrayVLESS, peer.XrayVMess}
)

// allCases returns the cases in the order in which they run.
func allCases(o options) []benchCase {
	cases := slices.Concat(loopbackCases(), linkCases(), pageCases(),
		lossCases(), coldCases(), rivalCases(), memoryCases(), statusCases(), manyCases())
	for i := range cases {
		c := &cases[i]
		if c.link != nil && c.control == "" {
			c.control = o.control
		}
		if o.quick {
			c.rounds = 1
			c.request.Window = c.request.Window / 2
			c.peers = slices.DeleteFunc(slices.Clone(c.peers), func(name string) bool {
				return name == peer.OpenSSH || name == peer.XrayVMess
			})
		}
		if o.rounds > 0 {
			c.rounds = o.rounds
		}
	}
	return cases
}

// chosen returns the cases and peers that the options select.
func chosen(cases []benchCase, o options) []benchCase {
	if o.only != "" {
		patterns := strings.Split(o.only, ",")
		cases = slices.DeleteFunc(cases, func(c benchCase) bool {
			return !slices.ContainsFunc(patterns, func(pattern string) bool {
				match, err := path.Match(pattern, c.name)
				return err == nil && match || strings.HasPrefix(c.name, pattern+"-")
			})
		})
	}
	if o.peers == "" {
		return cases
	}
	peers := strings.Split(o.peers, ",")
	for i := range cases {
		cases[i].peers = slices.DeleteFunc(slices.Clone(cases[i].peers), func(name string) bool {
			return !slices.Contains(peers, name)
		})
	}
	return slices.DeleteFunc(cases, func(c benchCase) bool { return len(c.peers) == 0 })
}
