package report

import "culvert/scripts/bench/peer"

// loopbackTables compare what runs on one machine without a link.
var loopbackTables = []table{
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
		title: "Observed",
		about: "One stream, with status page, metrics and control socket at both ends, and an " +
			"access log at the remote, while a reader of the page's events and a scraper look at " +
			"each, and with none of these.",
		columns: []column{
			{head: "1 down, MB/s", name: "status-down", value: "mb_per_s", plain: true},
			{head: "1 up, MB/s", name: "status-up", value: "mb_per_s", plain: true},
			{head: "CPU down, s/GB", name: "status-down", value: "cpu_s_per_gb", digit: 2, plain: true},
			{head: "CPU up, s/GB", name: "status-up", value: "cpu_s_per_gb", digit: 2, plain: true},
		},
		peers: []string{peer.Culvert, peer.CulvertObserved},
	},
	{
		title: "Memory after a load",
		about: "The resident memory of the larger end after 300 slow downloads for 15 s and 2 GB down " +
			"and up over 4 streams each, on loopback: at once, and after a minute with the session up.",
		columns: []column{
			{head: "at once, MB", name: "memory", value: "peak_mb", digit: 1, less: true, plain: true},
			{head: "after a minute, MB", name: "memory", value: "end_mb", digit: 1, less: true},
		},
		peers: []string{peer.Culvert},
	},
	{
		title: "Many users: 2,000 sessions of 10 streams",
		about: "One remote on loopback, whose sessions the load makes by itself, each for another key. " +
			"50 of the streams are busy downloads, each of another session. What they move is compared " +
			"with the same number of streams in the only session of the remote. Then the time of a " +
			"64-byte echo in sessions that are idle, while the busy ones move half as much as they can. " +
			"The memory and the CPU time are the remote's. Where fewer files may be open, there are " +
			"fewer streams.",
		columns: []column{
			{head: "sessions", name: "many", value: "sessions", plain: true},
			{head: "streams", name: "many", value: "streams", plain: true},
			{head: "50 streams of one session, MB/s", name: "many", value: "one_mb_per_s", plain: true},
			{head: "of 50, MB/s", name: "many", value: "mb_per_s"},
			{head: "ratio", name: "many", value: "ratio", digit: 2},
			{head: "CPU of one session, s/GB", name: "many", value: "one_cpu_s_per_gb", digit: 2,
				less: true, plain: true},
			{head: "CPU of 50, s/GB", name: "many", value: "cpu_s_per_gb", digit: 2, less: true},
			{head: "echo of idle sessions p50, ms", name: "many", value: "p50_ms", digit: 1, less: true},
			{head: "p90, ms", name: "many", value: "p90_ms", digit: 1, less: true},
			{head: "memory of a session, KB", name: "many", value: "kb_per_session", digit: 1, less: true},
			{head: "of a stream, KB", name: "many", value: "kb_per_stream", digit: 1, less: true},
			{head: "new sessions/s", name: "many", value: "connected_per_s"},
		},
		peers: []string{peer.CulvertUsers},
	},
}
