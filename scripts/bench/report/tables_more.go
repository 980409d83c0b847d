package report

import "culvert/scripts/bench/peer"

// secondTables follow firstTables.
var secondTables = []table{
	{
		title: "A link that loses packets: 40 ms round trip, 100 Mbit/s",
		about: "Throughput after a warm-up of 2 s, with 0.1 % or 1 % of the packets lost each way. The " +
			"congestion control of all connections is BBR or, in the last two columns, cubic; there " +
			"culvert still asks for BBR, unless it is told to take the system's.",
		columns: []column{
			{head: "0.1 %, 1 down, MB/s", name: "loss-down-1", value: "mb_per_s", digit: 2},
			{head: "1 up, MB/s", name: "loss-up-1", value: "mb_per_s", digit: 2},
			{head: "4 down, MB/s", name: "loss-down-4", value: "mb_per_s", digit: 2},
			{head: "4 up, MB/s", name: "loss-up-4", value: "mb_per_s", digit: 2},
			{head: "1 %, 1 down, MB/s", name: "loss-bad-down-1", value: "mb_per_s", digit: 2},
			{head: "1 %, 1 up, MB/s", name: "loss-bad-up-1", value: "mb_per_s", digit: 2},
			{head: "cubic, 1 down, MB/s", name: "loss-cubic-down-1", value: "mb_per_s", digit: 2},
			{head: "cubic, 1 up, MB/s", name: "loss-cubic-up-1", value: "mb_per_s", digit: 2},
		},
		peers:  direct,
		direct: true,
	},
	{
		title: "200 MB from a cold start: 100 ms round trip, 1 Gbit/s, MTU 9000",
		about: "The first transfer through a tunnel that was just started, from the dial to the last " +
			"byte. The congestion control of all connections is BBR or cubic; with cubic, culvert still " +
			"asks for BBR.",
		columns: []column{
			{head: "BBR, down, MB/s", name: "cold-down", value: "mb_per_s", digit: 1},
			{head: "BBR, up, MB/s", name: "cold-up", value: "mb_per_s", digit: 1},
			{head: "cubic, down, MB/s", name: "cold-cubic-down", value: "mb_per_s", digit: 1},
			{head: "cubic, up, MB/s", name: "cold-cubic-up", value: "mb_per_s", digit: 1},
		},
		peers:  direct,
		direct: true,
	},
	{
		title: "Next to another download: 40 ms round trip, 50 Mbit/s",
		about: "The share of one download of what it and another one without a proxy move together, " +
			"after 4 s. The congestion control of both is BBR or cubic; with cubic, culvert still asks " +
			"for BBR, unless it is told to take the system's.",
		columns: []column{
			{head: "BBR, share", name: "rival-bbr", value: "share", digit: 2, plain: true},
			{head: "BBR, MB/s", name: "rival-bbr", value: "mb_per_s", digit: 2, plain: true},
			{head: "cubic, share", name: "rival-cubic", value: "share", digit: 2, plain: true},
			{head: "cubic, MB/s", name: "rival-cubic", value: "mb_per_s", digit: 2, plain: true},
		},
		peers:  direct,
		direct: true,
	},
	{
		title: "Memory after a load",
		about: "The resident memory of the larger end after 300 slow downloads for 15 s and 2 GB down " +
			"and up over 4 streams each, on loopback: at once, and after a minute with the session up.",
		columns: []column{
			{head: "at once, MB", name: "memory", value: "peak_mb", digit: 1, less: true, plain: true},
			{head: "after a minute, MB", name: "memory", value: "end_mb", digit: 1, less: true},
		},
		peers: []string{peer.Culvert, peer.OpenSSHGCM},
	},
}
