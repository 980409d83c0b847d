package result

import (
	"maps"
	"slices"
	"time"
)

// Results are the results of one or more runs of the benchmark, by the names of the cases.
type Results struct {
	Cases map[string]*Case
}

// Case is the result of one case in one run.
type Case struct {
	Run
	Samples []Sample `json:"samples"`
}

// Run is what the cases share that were measured one after another.
type Run struct {
	Date     time.Time         `json:"date"` // of its begin
	Commit   string            `json:"commit"`
	Command  string            `json:"command"`
	Machine  Machine           `json:"machine"`
	Programs map[string]string `json:"programs"` // versions, by program
}

// Machine describes the machine of a run.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`

	// Congestion is the congestion control of TCP where a case has none of its own.
	Congestion string `json:"congestion"`
}

// Sample is one measurement.
type Sample struct {
	Peer   string             `json:"peer"`
	Round  int                `json:"round"`
	Values map[string]float64 `json:"values,omitempty"` // by names that end in their units
	Failed string             `json:"failed,omitempty"` // why there are no values
}

// New returns empty results.
func New() *Results {
	return &Results{Cases: make(map[string]*Case)}
}

// Values returns a peer's values of a case, in the order of the rounds.
func (r *Results) Values(name, peer, value string) []float64 {
	found, ok := r.Cases[name]
	if !ok {
		return nil
	}
	var values []float64
	for _, s := range found.Samples {
		if v, ok := s.Values[value]; ok && s.Peer == peer {
			values = append(values, v)
		}
	}
	return values
}

// Ratios returns a peer's values of a case divided by those of another in the same rounds.
func (r *Results) Ratios(name, value, peer, over string) []float64 {
	var ratios []float64
	for _, p := range r.pairs(name, value, peer, over) {
		if p[1] > 0 {
			ratios = append(ratios, p[0]/p[1])
		}
	}
	return ratios
}

// TurnRatios is Ratios for small differences. It divides the sums of rounds 0 and 1, 2 and 3, and
// so on, in which the peers took turns in the order ABBA: what slows the machine down slows both
// peers down alike. Pairs of rounds in which a value is missing are left out.
func (r *Results) TurnRatios(name, value, peer, over string) []float64 {
	found, ok := r.Cases[name]
	if !ok {
		return nil
	}
	type turns struct {
		own, base float64
		count     int
	}
	all := make(map[int]turns)
	for _, s := range found.Samples {
		v, ok := s.Values[value]
		t := all[s.Round/2]
		switch {
		case !ok:
			continue
		case s.Peer == peer:
			t.own += v
		case s.Peer == over:
			t.base += v
		default:
			continue
		}
		t.count++
		all[s.Round/2] = t
	}
	var ratios []float64
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if t := all[n]; t.count == 4 && t.base > 0 {
			ratios = append(ratios, t.own/t.base)
		}
	}
	return ratios
}

// Differences returns a peer's values of a case less those of another in the same rounds.
func (r *Results) Differences(name, value, peer, less string) []float64 {
	var differences []float64
	for _, p := range r.pairs(name, value, peer, less) {
		differences = append(differences, p[0]-p[1])
	}
	return differences
}

// pairs returns the values of two peers in the rounds in which both have one.
func (r *Results) pairs(name, value, peer, other string) (pairs [][2]float64) {
	found, ok := r.Cases[name]
	if !ok {
		return nil
	}
	others := make(map[int]float64)
	for _, s := range found.Samples {
		if v, ok := s.Values[value]; ok && s.Peer == other {
			others[s.Round] = v
		}
	}
	for _, s := range found.Samples {
		v, ok := s.Values[value]
		if base, paired := others[s.Round]; ok && paired && s.Peer == peer {
			pairs = append(pairs, [2]float64{v, base})
		}
	}
	return pairs
}

// Failure returns why a peer has no values of a case, or "" if it has some or was not measured.
func (r *Results) Failure(name, peer string) string {
	if failed, all := r.Failures(name, peer); failed < all || all == 0 {
		return ""
	}
	return r.FirstFailure(name, peer)
}

// FirstFailure returns why a peer's first failed measurement of a case failed, or "" if none did.
func (r *Results) FirstFailure(name, peer string) string {
	if found, ok := r.Cases[name]; ok {
		for _, s := range found.Samples {
			if s.Peer == peer && s.Failed != "" {
				return s.Failed
			}
		}
	}
	return ""
}

// Failures counts a peer's failed measurements of a case, and all of them.
func (r *Results) Failures(name, peer string) (failed, all int) {
	found, ok := r.Cases[name]
	if !ok {
		return 0, 0
	}
	for _, s := range found.Samples {
		if s.Peer == peer {
			all++
			if s.Failed != "" {
				failed++
			}
		}
	}
	return failed, all
}

// Runs returns the distinct runs that the cases come from, ordered by date.
func (r *Results) Runs() []Run {
	var runs []Run
	for _, name := range slices.Sorted(maps.Keys(r.Cases)) {
		run := r.Cases[name].Run
		same := func(other Run) bool {
			return other.Date.Equal(run.Date) && other.Commit == run.Commit && other.Command == run.Command
		}
		if !slices.ContainsFunc(runs, same) {
			runs = append(runs, run)
		}
	}
	slices.SortStableFunc(runs, func(a, b Run) int { return a.Date.Compare(b.Date) })
	return runs
}
