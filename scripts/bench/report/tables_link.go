package report

import (
	"slices"

	"culvert/scripts/bench/peer"
)

// asksForBBR describes what differs under cubic.
const asksForBBR = "cubic, in place of which culvert asks for BBR unless it is told not to"

// linkTables compare what runs over an emulated link.
var linkTables = []table{
	{
		title: "A long fast link: 100 ms round trip, 1 Gbit/s, MTU 9000",
		about: "One stream, after a warm-up of 2 s; and the time from the start of a new connection " +
			"until its first byte has come back, for a target that is new to the tunnel, then for the " +
			"same target again.",
		columns: []column{
			{head: "down, MB/s", name: "long-down", value: "mb_per_s", digit: 1},
			{head: "up, MB/s", name: "long-up", value: "mb_per_s", digit: 1},
			{head: "first byte, ms", name: "long-first", value: "unseen_ms", less: true},
			{head: "first byte again, ms", name: "long-first", value: "seen_ms", less: true},
		},
		peers:  peer.All,
		direct: true,
		plots: []plotted{
			{"long-throughput.svg", "One stream at 100 ms, 1 Gbit/s", "MB/s", []int{0, 1}},
			{"long-first.svg", "A new connection's first byte at 100 ms", "ms", []int{2, 3}},
		},
	},
	{
		title: "A narrow link: 40 ms round trip, 50 Mbit/s, 10 Mbit/s up",
		about: "The time of a 64-byte echo while 4 streams fill the link, and what these move " +
			"together. The uploads are over a link of 10 Mbit/s up, the other two of 50 Mbit/s each way. " +
			"In the last case HAProxy runs in front of the remote, on its host.",
		columns: []column{
			{head: "4 down p50, ms", name: "narrow-down", value: "p50_ms", less: true},
			{head: "4 down p90, ms", name: "narrow-down", value: "p90_ms", less: true},
			{head: "4 down, MB/s", name: "narrow-down", value: "bulk_mb_per_s", digit: 2},
			{head: "4 up p50, ms", name: "narrow-up", value: "p50_ms", less: true},
			{head: "4 up p90, ms", name: "narrow-up", value: "p90_ms", less: true},
			{head: "4 up, MB/s", name: "narrow-up", value: "bulk_mb_per_s", digit: 2},
			{head: "HAProxy, 4 down p50, ms", name: "narrow-haproxy", value: "p50_ms", less: true},
			{head: "HAProxy, 4 down p90, ms", name: "narrow-haproxy", value: "p90_ms", less: true},
			{head: "HAProxy, 4 down, MB/s", name: "narrow-haproxy", value: "bulk_mb_per_s", digit: 2},
		},
		peers:  peer.All,
		direct: true,
		plots: []plotted{{"narrow-echo.svg", "Echo while 4 streams fill the link", "p50, ms",
			[]int{0, 3, 6}}},
	},
	{
		title: "A page of 200 resources",
		about: "5.3 MB from six origins in headless Chromium, with a new profile for each load, until " +
			"its load event: alone at 100 ms and 100 Mbit/s, through a tunnel that was just started and " +
			"then twice more, and during two downloads at 40 ms and 50 Mbit/s.",
		columns: []column{
			{head: "alone, first load, s", name: "page-alone", value: "first_s", digit: 2, less: true},
			{head: "later loads, s", name: "page-alone", value: "later_s", digit: 2, less: true},
			{head: "during two downloads, s", name: "page-busy", value: "load_s", digit: 2, less: true},
		},
		peers:  slices.Insert(slices.Clone(peer.All), 1, peer.CulvertAlways),
		direct: true,
		plots: []plotted{{"page.svg", "A page of 200 resources until its load event", "s",
			[]int{0, 1, 2}}},
	},
	{
		title: "A link that loses packets, under BBR: 40 ms round trip, 100 Mbit/s",
		about: "Throughput after a warm-up of 2 s, with 0.1 % or 1 % of the packets lost each way.",
		columns: []column{
			{head: "0.1 %, 1 down, MB/s", name: "loss-down-1", value: "mb_per_s", digit: 2},
			{head: "1 up, MB/s", name: "loss-up-1", value: "mb_per_s", digit: 2},
			{head: "4 down, MB/s", name: "loss-down-4", value: "mb_per_s", digit: 2},
			{head: "4 up, MB/s", name: "loss-up-4", value: "mb_per_s", digit: 2},
			{head: "1 %, 1 down, MB/s", name: "loss-bad-down-1", value: "mb_per_s", digit: 2},
			{head: "1 %, 1 up, MB/s", name: "loss-bad-up-1", value: "mb_per_s", digit: 2},
			{head: "1 %, 4 down, MB/s", name: "loss-bad-down-4", value: "mb_per_s", digit: 2},
			{head: "1 %, 4 up, MB/s", name: "loss-bad-up-4", value: "mb_per_s", digit: 2},
		},
		peers:   []string{peer.Culvert, peer.OpenSSHGCM, peer.None},
		control: "bbr",
		direct:  true,
	},
	{
		title: "A link that loses packets, under cubic: 40 ms round trip, 100 Mbit/s",
		about: "The same where the systems have cubic. The tunnels carry one stream or four, and " +
			"without a proxy there is always one connection.",
		columns: []column{
			{head: "0.1 %, 1 down, MB/s", name: "loss-cubic-down-1", value: "mb_per_s", digit: 2},
			{head: "1 up, MB/s", name: "loss-cubic-up-1", value: "mb_per_s", digit: 2},
			{head: "4 down, MB/s", name: "loss-cubic-down-4", value: "mb_per_s", digit: 2},
			{head: "4 up, MB/s", name: "loss-cubic-up-4", value: "mb_per_s", digit: 2},
			{head: "1 %, 1 down, MB/s", name: "loss-bad-cubic-down-1", value: "mb_per_s", digit: 2},
			{head: "1 %, 1 up, MB/s", name: "loss-bad-cubic-up-1", value: "mb_per_s", digit: 2},
			{head: "1 %, 4 down, MB/s", name: "loss-bad-cubic-down-4", value: "mb_per_s", digit: 2},
			{head: "1 %, 4 up, MB/s", name: "loss-bad-cubic-up-4", value: "mb_per_s", digit: 2},
		},
		peers:   direct,
		control: asksForBBR,
		direct:  true,
	},
	{
		title: "200 MB from a cold start: 100 ms round trip, 1 Gbit/s, MTU 9000",
		about: "The first transfer through a tunnel that was just started, from the dial to the last " +
			"byte.",
		columns: []column{
			{head: "BBR, down, MB/s", name: "cold-down", value: "mb_per_s", digit: 1},
			{head: "BBR, up, MB/s", name: "cold-up", value: "mb_per_s", digit: 1},
			{head: "cubic, down, MB/s", name: "cold-cubic-down", value: "mb_per_s", digit: 1},
			{head: "cubic, up, MB/s", name: "cold-cubic-up", value: "mb_per_s", digit: 1},
		},
		peers:   direct,
		control: "bbr or, in the last two columns, " + asksForBBR,
		direct:  true,
	},
	{
		title: "Next to another download: 40 ms round trip, 50 Mbit/s",
		about: "The share of one download of what it and another one without a proxy move together, " +
			"after 4 s, and after 8 s where the two have different congestion controls.",
		columns: []column{
			{head: "both BBR, share", name: "rival-bbr", value: "share", digit: 2, plain: true},
			{head: "MB/s", name: "rival-bbr", value: "mb_per_s", digit: 2, plain: true},
			{head: "both cubic, share", name: "rival-cubic", value: "share", digit: 2, plain: true},
			{head: "both cubic, MB/s", name: "rival-cubic", value: "mb_per_s", digit: 2, plain: true},
			{head: "BBR next to cubic, share", name: "rival-bbr-cubic", value: "share", digit: 2,
				plain: true},
			{head: "BBR next to cubic, MB/s", name: "rival-bbr-cubic", value: "mb_per_s", digit: 2,
				plain: true},
			{head: "cubic next to BBR, share", name: "rival-cubic-bbr", value: "share", digit: 2,
				plain: true},
			{head: "cubic next to BBR, MB/s", name: "rival-cubic-bbr", value: "mb_per_s", digit: 2,
				plain: true},
		},
		peers:   direct,
		control: "as the columns say; with both cubic, culvert asks for BBR unless it is told not to",
		direct:  true,
	},
}
