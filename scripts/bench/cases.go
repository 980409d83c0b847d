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
	request load.Request  // what is measured, without the addresses
	ports   int           // new ports of the target for each round
	page    bool          // measure a page in a browser, during the request's bulk transfers
	extra   time.Duration // beyond the request's own durations, for the first estimate
}

// Peers of the cases: not every peer makes sense in every case.
var (
	everyone = []string{peer.None, peer.Culvert, peer.OpenSSHGCM, peer.OpenSSH, peer.XrayVLESS,
		peer.XrayVMess}
	tunnels  = everyone[1:]
	direct   = []string{peer.None, peer.Culvert, peer.OpenSSHGCM}
	overHTTP = []string{peer.Culvert, peer.XrayVLESS, peer.XrayVMess}
)

// Links of the cases; their delay is one way.
var (
	longLink   = link.Config{Delay: 50 * time.Millisecond, Rate: 1e9, MTU: 9000}
	narrowLink = link.Config{Delay: 20 * time.Millisecond, Rate: 50e6}
	pageLink   = link.Config{Delay: 50 * time.Millisecond, Rate: 100e6}
	lossyLink  = link.Config{Delay: 20 * time.Millisecond, Rate: 100e6, Loss: 0.001, Seed: 1}
	badLink    = link.Config{Delay: 20 * time.Millisecond, Rate: 100e6, Loss: 0.01, Seed: 1}
	uplink     = link.Config{Delay: 20 * time.Millisecond, Rate: 50e6, RateA: 10e6}
)

// allCases returns the cases in the order in which they run.
func allCases(o options) []benchCase {
	cases := slices.Concat(loopbackCases(), linkCases(), pageCases(),
		lossCases(), coldCases(), rivalCases(), memoryCases())
	for i := range cases {
		c := &cases[i]
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

func loopbackCases() []benchCase {
	const warmup, loopbackExtra = 300 * time.Millisecond, 500 * time.Millisecond
	bulk := func(name, title string, streams int, up bool) benchCase {
		return benchCase{name: "loopback-" + name, title: title, peers: everyone, rounds: 5,
			request: load.Request{
				Kind: "throughput", Streams: streams, Up: up, Warmup: warmup, Window: 1500 * time.Millisecond,
			}, extra: loopbackExtra}
	}
	echo := func(name, title string, streams int, up bool) benchCase {
		return benchCase{name: "loopback-" + name, title: title, peers: everyone, rounds: 3,
			request: load.Request{
				Kind: "echo", Bulk: streams, Up: up, Warmup: 500 * time.Millisecond, Window: 2 * time.Second,
			}, extra: loopbackExtra}
	}
	return []benchCase{
		bulk("down-1", "loopback, one stream down", 1, false),
		bulk("up-1", "loopback, one stream up", 1, true),
		bulk("down-16", "loopback, 16 streams down", 16, false),
		bulk("up-16", "loopback, 16 streams up", 16, true),
		bulk("down-256", "loopback, 256 streams down", 256, false),
		bulk("up-256", "loopback, 256 streams up", 256, true),
		echo("echo", "loopback, echo with nothing else running", 0, false),
		echo("echo-down", "loopback, echo under 4 downloads", 4, false),
		echo("echo-up", "loopback, echo under 4 uploads", 4, true),
		{name: "loopback-connect", title: "loopback, new connections, 16 at a time", peers: everyone,
			rounds: 5,
			request: load.Request{Kind: "connect", Streams: 16,
				Window: 2 * time.Second}, extra: loopbackExtra},
		{name: "idle-1000", title: "memory of 1,000 idle streams", peers: tunnels, rounds: 3, fresh: true,
			request: load.Request{Kind: "idle", Streams: 1000}, extra: 3 * time.Second},
		{name: "idle-10000", title: "echo with 10,000 idle streams", peers: everyone, rounds: 2,
			fresh: true,
			request: load.Request{Kind: "hold", Streams: 10000,
				Window: 2 * time.Second}, extra: 12 * time.Second},
	}
}

func linkCases() []benchCase {
	long := func(name, title string, up bool) benchCase {
		return benchCase{name: name, title: title, peers: everyone, rounds: 3, link: &longLink,
			request: load.Request{
				Kind: "throughput", Streams: 1, Up: up, Warmup: 2 * time.Second, Window: 4 * time.Second,
			}, extra: 2 * time.Second}
	}
	narrow := func(name, title string, peers []string, l *link.Config, up bool) benchCase {
		return benchCase{name: name, title: title, peers: peers, rounds: 3, link: l,
			request: load.Request{
				Kind: "echo", Bulk: 4, Up: up, Warmup: 2 * time.Second, Window: 6 * time.Second,
			}, extra: 2 * time.Second}
	}
	proxied := narrow("narrow-haproxy",
		"40 ms, 50 Mbit/s, HAProxy in front of the remote, echo under 4 downloads",
		overHTTP, &narrowLink, false)
	proxied.proxied = true
	return []benchCase{
		long("long-down", "100 ms, 1 Gbit/s, one stream down", false),
		long("long-up", "100 ms, 1 Gbit/s, one stream up", true),
		{name: "long-first", title: "100 ms, 1 Gbit/s, first byte of a new connection", peers: everyone,
			rounds: 3, link: &longLink,
			request: load.Request{Kind: "first"}, ports: 3, extra: 2 * time.Second},
		narrow("narrow-down", "40 ms, 50 Mbit/s, echo under 4 downloads", everyone, &narrowLink, false),
		narrow("narrow-up", "40 ms, 10 Mbit/s up, echo under 4 uploads", everyone, &uplink, true),
		proxied,
	}
}

func pageCases() []benchCase {
	return []benchCase{
		{name: "page-alone", title: "100 ms, 100 Mbit/s, a page of 200 resources", peers: everyone,
			rounds: 5,
			link:   &pageLink, page: true, extra: 4 * time.Second},
		{name: "page-busy", title: "40 ms, 50 Mbit/s, the page during 2 downloads", peers: everyone,
			rounds: 5,
			link:   &narrowLink, page: true, request: load.Request{Bulk: 2,
				Warmup: 2 * time.Second}, extra: 7 * time.Second},
	}
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
