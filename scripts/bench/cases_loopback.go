//go:build linux

package main

import (
	"time"

	"culvert/scripts/bench/load"
	"culvert/scripts/bench/peer"
)

func loopbackCases() []benchCase {
	const warmup, loopbackExtra = 300 * time.Millisecond, 500 * time.Millisecond
	bulk := func(name, title string, streams int, up bool) benchCase {
		return benchCase{name: "loopback-" + name, title: title, peers: everyone, rounds: usual,
			request: load.Request{
				Kind: "throughput", Streams: streams, Up: up, Warmup: warmup, Window: 1500 * time.Millisecond,
			}, extra: loopbackExtra}
	}
	echo := func(name, title string, streams int, up bool) benchCase {
		return benchCase{name: "loopback-" + name, title: title, peers: everyone, rounds: usual,
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
			rounds: usual,
			request: load.Request{Kind: "connect", Streams: 16,
				Window: 2 * time.Second}, extra: loopbackExtra},
		{name: "idle-1000", title: "memory of 1,000 idle streams", peers: tunnels,
			rounds: usual, fresh: true,
			request: load.Request{Kind: "idle", Streams: 1000}, extra: 3 * time.Second},
		{name: "idle-10000", title: "echo with 10,000 idle streams", peers: everyone, rounds: usual,
			fresh: true,
			request: load.Request{Kind: "hold", Streams: 10000,
				Window: 2 * time.Second}, extra: 12 * time.Second},
	}
}

// statusCases are what it costs to be observed. That is little compared with what a process is
// faster or slower than another one of the same program, and with how the machine's speed changes.
// So there are many rounds, short ones, of several pairs of processes.
func statusCases() []benchCase {
	status := func(name, title string, up bool) benchCase {
		return benchCase{name: "status-" + name, title: title,
			peers: []string{peer.Culvert, peer.CulvertObserved}, rounds: 48, renew: 8,
			request: load.Request{Kind: "throughput", Streams: 1, Up: up,
				Warmup: 200 * time.Millisecond, Window: 1100 * time.Millisecond},
			extra: 500 * time.Millisecond}
	}
	return []benchCase{
		status("down", "loopback, one stream down, observed and not", false),
		status("up", "loopback, one stream up, observed and not", true),
	}
}

// memoryCases are what remains after a load.
func memoryCases() []benchCase {
	return []benchCase{{
		name: "memory", title: "memory a minute after 300 slow downloads and 4 GB",
		peers: []string{peer.Culvert}, rounds: usual, fresh: true,
		request: load.Request{Kind: "memory", Streams: 300, Bytes: 4e9, Warmup: 15 * time.Second,
			Window: time.Minute},
		extra: 15 * time.Second,
	}}
}

// manyCases are many users of one remote.
func manyCases() []benchCase {
	return []benchCase{{
		name: "many", title: "2,000 sessions of 10 streams, 50 of them busy",
		peers: []string{peer.CulvertUsers}, rounds: usual, fresh: true, users: 2000, ports: 3,
		request: load.Request{Kind: "many", Streams: 10, Bulk: 50, Warmup: time.Second,
			Window: 4 * time.Second},
		extra: 30 * time.Second,
	}}
}
