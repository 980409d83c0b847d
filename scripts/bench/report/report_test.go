package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/result"
)

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		value  float64
		digits int
		want   string
	}{
		{0.85, 2, "0.85"},
		{999.6, 0, "1,000"},
		{1234567.89, 1, "1,234,567.9"},
		{-1234, 0, "-1,234"},
		{-123, 0, "-123"},
		{1.3, -1, "1.3"},
		{10000, -1, "10,000"},
	} {
		if got := number(test.value, test.digits); got != test.want {
			t.Errorf("%v with %d digits: %q, want %q", test.value, test.digits, got, test.want)
		}
	}
	if got := spread(result.Summary{Median: 2, Least: 1, Most: 3.25, Count: 3},
		1); got != "2.0 (1.0–3.2)" {
		t.Errorf("spread %q", got)
	}
}

func TestReplaceSection(t *testing.T) {
	const section = "new\n"
	want := beginMarker + "\n\nnew\n\n" + endMarker + "\n"
	for _, test := range []struct{ text, want string }{
		{"", want},
		{"# Title\n", "# Title\n\n" + want},
		{"# Title\n\n" + beginMarker + "old" + endMarker + "\n\n## After\n",
			"# Title\n\n" + want + "\n## After\n"},
	} {
		got, err := replaceSection([]byte(test.text), []byte(section))
		if err != nil || string(got) != test.want {
			t.Errorf("%q: %q, %v", test.text, got, err)
		}
		if again, err := replaceSection(got, []byte(section)); err != nil ||
			string(again) != string(got) {
			t.Errorf("again: %q, %v", again, err)
		}
	}
	if _, err := replaceSection([]byte(beginMarker), []byte(section)); err == nil {
		t.Error("a section without an end was replaced")
	}
}

// example returns results in which culvert reaches one bar and misses others.
func example() *result.Results {
	r := result.New()
	run := result.Run{Date: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Commit: "abc",
		Command: "make bench", Programs: map[string]string{"OpenSSH": "9"},
		Machine: result.Machine{CPU: "a processor", Cores: 2, Kernel: "Linux 6", Go: "go1",
			Congestion: "bbr"}}
	add := func(name, peer string, round int, values map[string]float64, failed string) {
		c := r.Cases[name]
		if c == nil {
			c = &result.Case{Run: run}
			r.Cases[name] = c
		}
		c.Samples = append(c.Samples,
			result.Sample{Peer: peer, Round: round, Values: values, Failed: failed})
	}
	for round, culvert := range []float64{700, 900, 800} {
		add("loopback-down-1", peer.Culvert, round,
			map[string]float64{"mb_per_s": culvert, "cpu_s_per_gb": 2}, "")
		add("loopback-down-1", peer.OpenSSHGCM, round,
			map[string]float64{"mb_per_s": 700, "cpu_s_per_gb": 1.6}, "")
		add("loopback-down-1", peer.XrayVLESS, round, nil, "first byte: EOF\nand more")
		add("loopback-down-1", peer.None, round, map[string]float64{"mb_per_s": 3000}, "")
	}
	add("narrow-down", peer.Culvert, 0,
		map[string]float64{"p50_ms": 90, "p90_ms": 99, "bulk_mb_per_s": 5.9}, "")
	add("narrow-down", peer.None, 0,
		map[string]float64{"p50_ms": 80, "p90_ms": 98, "bulk_mb_per_s": 5.9}, "")
	return r
}

// TestManyUsers compares the table under "Many users", which says more than the generated ones,
// with the results.
func TestManyUsers(t *testing.T) {
	const docs = "../../../docs"
	r, err := result.Read(filepath.Join(docs, "benchmarks", "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Many users\n")
	section, _, _ = strings.Cut(section, "\n## ")
	run := r.Cases["many"].Run
	wanted := []string{"Measured on " + run.Date.Format(time.DateOnly) + " at " + run.Commit + ","}
	for _, row := range []struct {
		begins, value string
		digits        int
	}{
		{"50 downloads, one each in 50 of the 2,000 sessions, MB/s", "mb_per_s", 0},
		{"the same, against 50 downloads in one session", "ratio", 2},
		{"echo of idle sessions at half of that, p90, ms", "p90_ms", 1},
		{"memory of the remote a session, KB", "kb_per_session", 1},
		{"memory of the remote a stream, KB", "kb_per_stream", 1},
		{"new sessions a second", "connected_per_s", 0},
	} {
		values := r.Values("many", peer.CulvertUsers, row.value)
		wanted = append(wanted,
			"| "+row.begins+" | "+spread(result.Summarize(values), row.digits)+" |")
	}
	for _, want := range wanted {
		if !strings.Contains(section, want) {
			t.Errorf("%q is not in docs/benchmarks.md, under Many users", want)
		}
	}
}

func TestWrite(t *testing.T) {
	folder := t.TempDir()
	if err := Write(folder, example()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a processor, 2 cores; Linux 6; go1, OpenSSH 9:\n\n- 2026-11-01 12:00 UTC",
		"control: bbr, the system's; culvert asks for BBR, and on loopback for none that paces.\n",
		"- 2026-11-01 12:00 UTC, commit abc: `make bench`",
		"| one stream down on loopback, against OpenSSH with aes128-gcm | ≥ 1 | 1.3 | 1.14 (1.00–1.29) " +
			"| reached |",
		"| CPU time per GB down, both ends, against the same | ≤ 1 | 0.8 | 1.25 (1.25–1.25) | " +
			"**missed** |",
		"| one stream up on loopback, against the same | ≥ 1 | 1.3 | – | not measured |",
		"| culvert | 800 (700–900) | – |",
		"| Xray VLESS, no encryption | failed | – |",
		"- Xray VLESS, no encryption, `loopback-down-1`: 3 of 3 failed: first byte: EOF\n",
		"Culvert is behind: CPU down, s/GB: 2.00, OpenSSH, aes128-gcm has 1.60.",
		// and 99 against 98 is not mentioned
		"Culvert is behind: 4 down p50, ms: 90, no proxy has 80.",
		"![Throughput on loopback](benchmarks/loopback-throughput.svg)",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	if strings.Contains(string(text), "### A page") {
		t.Error("a table of what was not measured")
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
	for name, want := range map[string]bool{"loopback-throughput.svg": true, "narrow-echo.svg": true,
		"page.svg": false} {
		svg, err := os.ReadFile(filepath.Join(folder, plotFolder, name))
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		} else if want && !strings.Contains(string(svg), ">culvert</text>") {
			t.Errorf("%s does not name culvert", name)
		}
	}
}

// Where the cases come from runs on several machines, each run is said to be of its own.
func TestSeveralMachines(t *testing.T) {
	r := example()
	other := r.Cases["narrow-down"].Run
	other.Date = other.Date.Add(time.Hour)
	other.Machine.CPU, other.Machine.Congestion = "another one", "cubic"
	r.Cases["narrow-down"].Run = other
	r.Cases["narrow-up"] = &result.Case{Run: r.Cases["loopback-down-1"].Run}
	var text strings.Builder
	writeMarkdown(&text, r)
	for _, want := range []string{
		"a processor, 2 cores; Linux 6; go1, OpenSSH 9:\n\n- 2026-11-01 12:00 UTC, commit abc: " +
			"`make bench`\n\nanother one, 2 cores; Linux 6; go1, OpenSSH 9:\n\n- 2026-11-01 13:00 UTC",
		"control: bbr, the system's;",
		"control: cubic or bbr, the system's;",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in the report:\n%s", want, text.String())
		}
	}
}

func TestSummary(t *testing.T) {
	var out strings.Builder
	Summary(&out, example())
	if want := "MISSED       CPU time per GB down, both ends, against the same: 1.25 (1.25–1.25), " +
		"bar <= 1\n"; !strings.Contains(out.String(), want) {
		t.Errorf("summary\n%s", out.String())
	}
}

// The columns of a table have distinct names, and its plots refer to existing columns.
func TestTables(t *testing.T) {
	for _, table := range tables {
		heads := make(map[string]bool)
		for _, c := range table.columns {
			if heads[c.head] {
				t.Errorf("%s: two columns %q", table.title, c.head)
			}
			heads[c.head] = true
		}
		for _, p := range table.plots {
			for _, i := range p.columns {
				if i >= len(table.columns) {
					t.Errorf("%s: no column %d", p.file, i)
				}
			}
		}
	}
}

func TestFill(t *testing.T) {
	long := strings.Repeat("word ", 30)
	for _, tt := range []struct{ line, want string }{
		{"short\n", "short\n"},
		{"\n", "\n"},
		{"| " + long + "|\n", "| " + long + "|\n"},
		{"![" + long + "](x.svg)\n", "![" + long + "](x.svg)\n"},
		{long + "\n", strings.Repeat("word ", 19) + "word\n" + strings.Repeat("word ", 9) + "word\n"},
		{"- " + long + "\n", "- " + strings.Repeat("word ", 18) + "word\n  " +
			strings.Repeat("word ", 10) + "word\n"},
	} {
		if got := fill(tt.line); got != tt.want {
			t.Errorf("%q is filled as\n%q, want\n%q", tt.line, got, tt.want)
		}
	}
}
