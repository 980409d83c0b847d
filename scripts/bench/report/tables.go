package report

import (
	"slices"

	"culvert/scripts/bench/peer"
)

// table is a comparison of the peers.
type table struct {
	title   string
	about   string
	columns []column
	peers   []string
	direct  bool // no proxy is a peer to compare with, not only the ceiling
	plots   []plotted
}

// column is a value of a case.
type column struct {
	head  string
	name  string // of the case
	value string
	digit int // digits after the point
	less  bool
	plain bool // not compared
}

// plotted is a plot of some columns.
type plotted struct {
	file    string
	title   string
	axis    string
	columns []int
}

// tunnels are the peers except for the direct connection.
var tunnels = peer.All[:len(peer.All)-1]

// direct are the peers of the cases that compare with no proxy only.
var direct = []string{peer.Culvert, peer.CulvertSystem, peer.OpenSSHGCM, peer.None}

// tables are all comparisons, in their order.
var tables = slices.Concat(firstTables, secondTables)

var firstTables = []table{
	{
		title: "Throughput on loopback",
		about: "Throughput through SOCKS5, measured where the data arrives, after a warm-up, over 1, " +
			"16 and 256 concurrent streams; and the CPU time of both ends together per gigabyte, with " +
			"one stream.",
		columns: []column{
			{head: "1 down, MB/s", name: "loopback-down-1", value: "mb_per_s"},
			{head: "16 down, MB/s", name: "loopback-down-16", value: "mb_per_s"},
			{head: "256 down, MB/s", name: "loopback-down-256", value: "mb_per_s"},
			{head: "1 up, MB/s", name: "loopback-up-1", value: "mb_per_s"},
			{head: "16 up, MB/s", name: "loopback-up-16", value: "mb_per_s"},
			{head: "256 up, MB/s", name: "loopback-up-256", value: "mb_per_s"},
			{head: "CPU down, s/GB", name: "loopback-down-1", value: "cpu_s_per_gb", digit: 2, less: true},
			{head: "CPU up, s/GB", name: "loopback-up-1", value: "cpu_s_per_gb", digit: 2, less: true},
		},
		peers: peer.All,
		plots: []plotted{
			{"loopback-throughput.svg", "Throughput on loopback", "MB/s", []int{0, 1, 2, 3, 4, 5}},
			{"loopback-cpu.svg", "CPU time, both ends", "s/GB", []int{6, 7}},
		},
	},
	{
		title: "Latency and connections on loopback",
		about: "The time of a 64-byte echo, with nothing else running and while 4 streams move data as " +
			"fast as they can; new connections per second, 16 at a time, each echoing one byte.",
		columns: []column{
			{head: "idle p50, ms", name: "loopback-echo", value: "p50_ms", digit: 2, less: true},
			{head: "idle p90, ms", name: "loopback-echo", value: "p90_ms", digit: 2, less: true},
			{head: "4 down p50, ms", name: "loopback-echo-down", value: "p50_ms", digit: 1, less: true},
			{head: "4 down p90, ms", name: "loopback-echo-down", value: "p90_ms", digit: 1, less: true},
			{head: "4 up p50, ms", name: "loopback-echo-up", value: "p50_ms", digit: 1, less: true},
			{head: "4 up p90, ms", name: "loopback-echo-up", value: "p90_ms", digit: 1, less: true},
			{head: "connections/s", name: "loopback-connect", value: "conns_per_s"},
		},
		peers: peer.All,
		plots: []plotted{{"loopback-echo.svg", "Echo on loopback while 4 streams move data", "p50, ms",
			[]int{2, 4}}},
	},
	{
		title: "Idle streams",
		about: "The memory that each of 1,000 and of 10,000 idle streams takes in both ends: the " +
			"proportional set size of freshly started processes, less that with the first hundred " +
			"streams (for 10,000, with the first). Then the echo of one more stream without and with " +
			"10,000 idle ones, and how many of these still echo a byte.",
		columns: []column{
			{head: "memory of 1,000, KB", name: "idle-1000", value: "kb_per_stream", digit: 1, less: true},
			{head: "of 10,000, KB", name: "idle-10000", value: "kb_per_stream", digit: 1, less: true},
			{head: "echo p50 alone, ms", name: "idle-10000", value: "unloaded_p50_ms", digit: 2, less: true,
				plain: true},
			{head: "with 10,000, ms", name: "idle-10000", value: "p50_ms", digit: 2, less: true},
			{head: "ratio", name: "idle-10000", value: "ratio", digit: 2, less: true},
			{head: "held", name: "idle-10000", value: "held"},
		},
		peers: peer.All,
	},
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
			"its load event: alone at 100 ms and 100 Mbit/s, and during two downloads at 40 ms and 50 " +
			"Mbit/s.",
		columns: []column{
			{head: "alone, s", name: "page-alone", value: "load_s", digit: 2, less: true},
			{head: "during two downloads, s", name: "page-busy", value: "load_s", digit: 2, less: true},
		},
		peers:  peer.All,
		direct: true,
		plots:  []plotted{{"page.svg", "A page of 200 resources until its load event", "s", []int{0, 1}}},
	},
}
