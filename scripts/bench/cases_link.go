//go:build linux

package main

import (
	"fmt"
	"slices"
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
		return benchCase{name: name, title: title, peers: everyone, rounds: usual, link: &longLink,
			request: load.Request{
				Kind: "throughput", Streams: 1, Up: up, Warmup: 2 * time.Second, Window: 4 * time.Second,
			}, extra: 2 * time.Second}
	}
	narrow := func(name, title string, peers []string, l *link.Config, up bool) benchCase {
		return benchCase{name: name, title: title, peers: peers, rounds: usual, link: l,
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
			rounds: usual, link: &longLink,
			request: load.Request{Kind: "first"}, ports: 3, extra: 2 * time.Second},
		narrow("narrow-down", "40 ms, 50 Mbit/s, echo under 4 downloads", everyone, &narrowLink, false),
		narrow("narrow-up", "40 ms, 10 Mbit/s up, echo under 4 uploads", everyone, &uplink, true),
		proxied,
	}
}

// pageCases load a page. Through a fresh tunnel, the first load is unlike the later ones.
func pageCases() []benchCase {
	return []benchCase{
		{name: "page-alone", title: "100 ms, 100 Mbit/s, a page of 200 resources, three times",
			peers: slices.Insert(slices.Clone(everyone), 2, peer.CulvertAlways), rounds: usual,
			fresh: true, link: &pageLink, page: 3, extra: 10 * time.Second},
		{name: "page-busy", title: "40 ms, 50 Mbit/s, the page during 2 downloads", peers: everyone,
			rounds: usual, link: &narrowLink, page: 1,
			request: load.Request{Bulk: 2, Warmup: 2 * time.Second}, extra: 7 * time.Second},
	}
}

// lossCases are transfers over links that lose packets. Warmed up, since a new connection is faster
// until losses have slowed it down: the first one under BBR, half a dozen under cubic, which at
// 0.1 % take it four seconds. Without a proxy the connections are new, and those of tunnels aren't.
// BBR sends next to nothing for a fifth of a second in ten, so the window holds one such time,
// however old a connection is. Cubic's is longer, for 15 losses instead of ten. Under cubic, a
// tunnel compares with one connection that takes no proxy.
func lossCases() []benchCase {
	var cases []benchCase
	for _, control := range []string{bbr, cubic} {
		for _, lossy := range []*link.Config{&lossyLink, &badLink} {
			for _, streams := range []int{1, 4} {
				for _, up := range []bool{false, true} {
					cases = append(cases, lossCase(control, lossy, streams, up))
				}
			}
		}
	}
	return cases
}

// lossCase returns one case, named such as loss-down-1 or loss-bad-cubic-up-4.
func lossCase(control string, lossy *link.Config, streams int, up bool) benchCase {
	c := benchCase{
		name: "loss", title: "0.1 % loss", peers: direct, rounds: usual, link: lossy, control: control,
		request: load.Request{Kind: "throughput", Streams: streams, Up: up, Warmup: 2 * time.Second,
			Window: 10 * time.Second},
		extra: time.Second,
	}
	if lossy == &badLink {
		c.name, c.title = c.name+"-bad", "1 % loss"
	}
	if control == cubic {
		c.name, c.title = c.name+"-cubic", c.title+", cubic"
		c.peers, c.lone = bothControls, true
		c.request.Warmup, c.request.Window = 8*time.Second, 15*time.Second
		// What peers hold of four uploads takes a minute to arrive, and would slow the next one down.
		c.fresh = up && streams > 1
	} else {
		c.title += ", BBR"
	}
	direction := "down"
	if up {
		direction = "up"
	}
	c.name = fmt.Sprintf("%s-%s-%d", c.name, direction, streams)
	c.title = fmt.Sprintf("%s, %d %s %s", c.title, streams, plural("stream", streams), direction)
	return c
}

// plural returns the form of a word for n of them.
func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// coldCases are the first transfers through peers that have just been started.
func coldCases() []benchCase {
	cold := func(name, title, control string, peers []string, up bool) benchCase {
		return benchCase{name: "cold-" + name, title: title, peers: peers, rounds: usual, fresh: true,
			link: &longLink, control: control,
			request: load.Request{Kind: "cold", Bytes: 200e6, Up: up}, extra: 11 * time.Second}
	}
	return []benchCase{
		cold("down", "200 MB from a cold start, BBR, down", bbr, direct, false),
		cold("up", "200 MB from a cold start, BBR, up", bbr, direct, true),
		cold("cubic-down", "200 MB from a cold start, cubic, down", cubic, bothControls, false),
		cold("cubic-up", "200 MB from a cold start, cubic, up", cubic, bothControls, true),
	}
}

// rivalCases are downloads next to one that takes no proxy, under the same congestion control or
// another. Those under different ones take longer to find their shares.
func rivalCases() []benchCase {
	const warmup, window = 4 * time.Second, 8 * time.Second
	rival := func(name, title, control, other string, peers []string,
		warmup, window time.Duration) benchCase {
		return benchCase{name: "rival-" + name, title: "40 ms, 50 Mbit/s, next to another download, " +
			title, peers: peers, rounds: usual, link: &narrowLink, control: control,
			request: load.Request{Kind: "rival", Streams: 1, Rival: other, Warmup: warmup, Window: window},
			extra:   2 * time.Second}
	}
	system := []string{peer.None, peer.CulvertSystem, peer.OpenSSHGCM}
	return []benchCase{
		rival("bbr", "BBR", bbr, "", direct, warmup, window),
		rival("cubic", "cubic", cubic, "", bothControls, warmup, window),
		rival("bbr-cubic", "BBR, the other cubic", bbr, cubic, direct, 2*warmup, 2*window),
		rival("cubic-bbr", "cubic, the other BBR", cubic, bbr, system, 2*warmup, 2*window),
	}
}
