package result

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestStatistics(t *testing.T) {
	for _, test := range []struct {
		values           []float64
		median, p50, p90 float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{4, 1}, 2.5, 1, 4},
		{[]float64{9, 1, 5}, 5, 5, 9},
		{[]float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 5.5, 5, 9},
	} {
		given := slices.Clone(test.values)
		if got := Median(given); got != test.median {
			t.Errorf("median of %v: %v", test.values, got)
		}
		if p50, p90 := Quantile(given, 0.5), Quantile(given, 0.9); p50 != test.p50 || p90 != test.p90 {
			t.Errorf("quantiles of %v: %v, %v", test.values, p50, p90)
		}
		if !slices.Equal(given, test.values) {
			t.Errorf("%v was sorted", test.values)
		}
	}
	if !math.IsNaN(Median(nil)) || !math.IsNaN(Quantile(nil, 0.5)) ||
		!math.IsNaN(Summarize(nil).Most) {
		t.Error("no values have statistics")
	}
	if got := Summarize([]float64{2, 8, 3}); got != (Summary{3, 2, 8, 3, 3}) {
		t.Errorf("summary %+v", got)
	}
}

// The error of a median is half of what is left of the values when the outer ones are taken away,
// of which there are the more the more values there are.
func TestMedianError(t *testing.T) {
	ramp := make([]float64, 100)
	for i := range ramp {
		ramp[len(ramp)-1-i] = float64(i)
	}
	for n, want := range map[int]float64{1: 0, 2: 0.5, 5: 2, 6: 2.5, 25: 5, 100: 9.5} {
		if got := MedianError(ramp[:n]); got != want {
			t.Errorf("of %d values: %v, want %v", n, got, want)
		}
	}
	if !math.IsNaN(MedianError(nil)) {
		t.Error("no values have an error")
	}
}

// Turns are two rounds in a row, in which both peers have values.
func TestTurnRatios(t *testing.T) {
	r := New()
	c := &Case{}
	r.Cases["status-up"] = c
	add := func(peer string, round int, rate float64) {
		s := Sample{Peer: peer, Round: round, Failed: "lost"}
		if rate > 0 {
			s = Sample{Peer: peer, Round: round, Values: map[string]float64{"mb_per_s": rate}}
		}
		c.Samples = append(c.Samples, s)
	}
	for round, rates := range [][2]float64{
		{100, 100}, {300, 500}, {1, 0}, {7, 1}, {6, 8}, {2, 8}, {1, 1},
	} {
		add("culvert", round, rates[0])
		add("none", round, 7)
		add("culvert-observed", round, rates[1])
	}
	want := []float64{1.5, 2}
	if got := turnRatio("status-up", "mb_per_s")(r); !slices.Equal(got, want) {
		t.Errorf("ratios %v, want %v", got, want)
	}
	if got := turnRatio("status-down", "mb_per_s")(r); got != nil {
		t.Errorf("ratios %v of a case that was not measured", got)
	}
}

// example has three rounds of one stream down, of which the second failed for OpenSSH.
func example() *Results {
	r := New()
	r.Cases["loopback-down-1"] = &Case{
		Run: Run{Date: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Commit: "abc"},
		Samples: []Sample{
			{Peer: "openssh-gcm", Round: 0, Values: map[string]float64{"mb_per_s": 500, "cpu_s_per_gb": 2}},
			{Peer: "culvert", Round: 0, Values: map[string]float64{"mb_per_s": 600, "cpu_s_per_gb": 1.5}},
			{Peer: "culvert", Round: 1, Values: map[string]float64{"mb_per_s": 9000, "cpu_s_per_gb": 1.5}},
			{Peer: "openssh-gcm", Round: 1, Failed: "lost"},
			{Peer: "culvert", Round: 2, Values: map[string]float64{"mb_per_s": 400, "cpu_s_per_gb": 1.5}},
			{Peer: "openssh-gcm", Round: 2, Values: map[string]float64{"mb_per_s": 500, "cpu_s_per_gb": 1}},
			{Peer: "xray-vless", Round: 2, Failed: "never"},
		}}
	return r
}

func TestResults(t *testing.T) {
	r := example()
	if got := r.Values("loopback-down-1", "culvert", "mb_per_s"); !slices.Equal(got,
		[]float64{600, 9000, 400}) {
		t.Errorf("values %v", got)
	}
	if got := r.Ratios("loopback-down-1", "mb_per_s", "culvert", "openssh-gcm"); !slices.Equal(got,
		[]float64{1.2, 0.8}) {
		t.Errorf("ratios %v: of rounds that both have", got)
	}
	got := difference("culvert", "loopback-down-1", "mb_per_s", "openssh-gcm")(r)
	if !slices.Equal(got, []float64{100, -100}) {
		t.Errorf("differences %v: of rounds that both have", got)
	}
	if got := againstBest("loopback-down-1", "mb_per_s")(r); !slices.Equal(got, []float64{0.8, 1.2}) {
		t.Errorf("ratios to the best %v", got)
	}
	if r.Failure("loopback-down-1", "openssh-gcm") != "" ||
		r.Failure("loopback-down-1", "xray-vless") != "never" {
		t.Error("a peer has failed when all of its measurements have")
	}
	if failed, all := r.Failures("loopback-down-1", "openssh-gcm"); failed != 1 || all != 3 {
		t.Errorf("%d of %d failed", failed, all)
	}
	if r.FirstFailure("loopback-down-1", "openssh-gcm") != "lost" {
		t.Error("the failure is forgotten")
	}
	if r.Values("nothing", "culvert", "mb_per_s") != nil ||
		r.Ratios("nothing", "x", "a", "b") != nil || r.Failure("nothing", "culvert") != "" {
		t.Error("a case that was not measured has results")
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	r, err := Read(path)
	if err != nil || len(r.Cases) != 0 {
		t.Fatalf("no file: %+v, %v", r, err)
	}
	r = example()
	r.Cases["another"] = &Case{Run: Run{Programs: map[string]string{"OpenSSH": "9"},
		Machine: Machine{Cores: 2}}}
	for _, want := range []*Results{r, New()} {
		if err := want.Write(path); err != nil {
			t.Fatal(err)
		}
		if again, err := Read(path); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("read %+v, %v", again, err)
		}
		if text, err := os.ReadFile(path); err != nil || bytes.Count(text, []byte("\n")) !=
			len(want.Cases)+2 {
			t.Errorf("not a line for each case: %v\n%s", err, text)
		}
	}
}

func TestRuns(t *testing.T) {
	r := example()
	first := r.Cases["loopback-down-1"]
	r.Cases["a"] = &Case{Run: Run{Date: first.Date.Add(time.Hour), Commit: "def"}}
	r.Cases["b"] = &Case{Run: first.Run}
	if runs := r.Runs(); len(runs) != 2 || runs[0].Commit != "abc" || runs[1].Commit != "def" {
		t.Errorf("runs %+v", runs)
	}
}

func TestBars(t *testing.T) {
	r := example()
	seen := make(map[string]bool)
	for _, b := range Bars {
		if seen[b.Figure] {
			t.Errorf("two bars %q", b.Figure)
		}
		seen[b.Figure] = true
		if b.Beyond != 0 && !b.meets(b.Beyond, b.Value) {
			t.Errorf("%s: what is beyond does not reach the bar", b.Figure)
		}
	}
	down, cpu := Bars[0].Verdict(r), Bars[4].Verdict(r)
	if !down.Known || !down.Reached || down.ReachedBeyond ||
		down.Measured != (Summary{1, 0.8, 1.2, down.Measured.Error, 2}) {
		t.Errorf("throughput %+v", down)
	}
	if !cpu.Known || cpu.Reached { // 0.75 and 1.5
		t.Errorf("CPU time %+v", cpu)
	}
	if v := Bars[1].Verdict(r); v.Known || v.Reached || v.ReachedBeyond {
		t.Errorf("not measured: %+v", v)
	}
	atMost := Bar{AtMost: true, Value: 60, Beyond: 45,
		values: func(*Results) []float64 { return []float64{45} }}
	if v := atMost.Verdict(r); !v.Reached || !v.ReachedBeyond {
		t.Errorf("at most: %+v", v)
	}
}

// A difference may be as far below 0 as above.
func TestWithin(t *testing.T) {
	for _, test := range []struct {
		value float64
		want  bool
	}{{0.1, true}, {-0.1, true}, {0, true}, {0.11, false}, {-0.11, false}} {
		b := Bar{Within: true, Value: 0.1,
			values: func(*Results) []float64 { return []float64{test.value} }}
		if v := b.Verdict(New()); v.Reached != test.want {
			t.Errorf("%v: %+v", test.value, v)
		}
	}
}
