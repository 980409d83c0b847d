//go:build linux

package main

import (
	"time"

	"culvert/internal/testnet/link"
	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
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

// The congestion controls that cases compare.
const (
	bbr   = "bbr"
	cubic = "cubic"
)

// bothControls are the peers of a case under cubic: culvert asks for BBR by default.
var bothControls = []string{peer.None, peer.Culvert, peer.CulvertSystem, peer.OpenSSHGCM}

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

// lossCases are transfers over links that lose packets. Warmed up, since a new connection is faster
// until it meets its first loss.
func lossCases() []benchCase {
	loss := func(name, title, control string, peers []string, l *link.Config, streams int,
		up bool) benchCase {
		return benchCase{name: "loss-" + name, title: title, peers: peers, rounds: 3, link: l,
			control: control,
			request: load.Request{Kind: "throughput", Streams: streams, Up: up,
				Warmup: 2 * time.Second, Window: 4 * time.Second},
			extra: time.Second}
	}
	return []benchCase{
		loss("down-1", "0.1 % loss, BBR, one stream down", bbr, direct, &lossyLink, 1, false),
		loss("up-1", "0.1 % loss, BBR, one stream up", bbr, direct, &lossyLink, 1, true),
		loss("down-4", "0.1 % loss, BBR, 4 streams down", bbr, direct, &lossyLink, 4, false),
		loss("up-4", "0.1 % loss, BBR, 4 streams up", bbr, direct, &lossyLink, 4, true),
		loss("bad-down-1", "1 % loss, BBR, one stream down", bbr, direct, &badLink, 1, false),
		loss("bad-up-1", "1 % loss, BBR, one stream up", bbr, direct, &badLink, 1, true),
		loss("cubic-down-1", "0.1 % loss, cubic, one stream down", cubic, bothControls, &lossyLink,
			1, false),
		loss("cubic-up-1", "0.1 % loss, cubic, one stream up", cubic, bothControls, &lossyLink,
			1, true),
	}
}

// coldCases are the first transfers through peers that have just been started.
func coldCases() []benchCase {
	cold := func(name, title, control string, up bool) benchCase {
		return benchCase{name: "cold-" + name, title: title, peers: direct, rounds: 3, fresh: true,
			link: &longLink, control: control,
			request: load.Request{Kind: "cold", Bytes: 200e6, Up: up}, extra: 11 * time.Second}
	}
	return []benchCase{
		cold("down", "200 MB from a cold start, BBR, down", bbr, false),
		cold("up", "200 MB from a cold start, BBR, up", bbr, true),
		cold("cubic-down", "200 MB from a cold start, cubic, down", cubic, false),
		cold("cubic-up", "200 MB from a cold start, cubic, up", cubic, true),
	}
}

// rivalCases are downloads next to one that takes no proxy.
func rivalCases() []benchCase {
	rival := func(name, title, control string, peers []string) benchCase {
		return benchCase{name: "rival-" + name, title: title, peers: peers, rounds: 3,
			link: &narrowLink, control: control,
			request: load.Request{Kind: "rival", Streams: 1, Warmup: 4 * time.Second,
				Window: 8 * time.Second},
			extra: 2 * time.Second}
	}
	return []benchCase{
		rival("bbr", "40 ms, 50 Mbit/s, next to another download, BBR", bbr, direct),
		rival("cubic", "40 ms, 50 Mbit/s, next to another download, cubic", cubic, bothControls),
	}
}
