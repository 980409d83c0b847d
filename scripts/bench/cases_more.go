//go:build linux

package main

import (
	"time"

	"culvert/internal/testnet/link"
	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
)

// The congestion controls that cases compare.
const (
	bbr   = "bbr"
	cubic = "cubic"
)

// bothControls are the peers of a case under cubic: culvert asks for BBR by default.
var bothControls = []string{peer.None, peer.Culvert, peer.CulvertSystem, peer.OpenSSHGCM}

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

// memoryCases are what remains after a load.
func memoryCases() []benchCase {
	return []benchCase{{
		name: "memory", title: "memory a minute after 300 slow downloads and 4 GB",
		peers: []string{peer.Culvert, peer.OpenSSHGCM}, rounds: 2, fresh: true,
		request: load.Request{Kind: "memory", Streams: 300, Bytes: 4e9, Warmup: 15 * time.Second,
			Window: time.Minute},
		extra: 15 * time.Second,
	}}
}
