package result

import (
	"math"
	"slices"
)

// Quantile returns the nearest-rank quantile: the smallest of the values that at least this share
// of them does not exceed. It is NaN for no values.
func Quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median returns the middle value, or the mean of the two middle values. It is NaN for no values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// MedianError returns half the width of the 95 % confidence interval of the median, by ranks: as
// many values are below the true median as heads come up in that many tosses of a coin. With up to
// six values it is half of their range, and NaN with none.
func MedianError(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := float64(len(sorted))
	rank := max(int(math.Floor((n-1.96*math.Sqrt(n))/2)), 0)
	return (sorted[len(sorted)-1-rank] - sorted[rank]) / 2
}

// Summary is the median and the range of some values.
type Summary struct {
	Median, Least, Most float64
	Error               float64 // of the median, by MedianError
	Count               int
}

// Summarize returns a summary of values. For no values, its numbers are NaN.
func Summarize(values []float64) Summary {
	s := Summary{Median: Median(values), Least: math.NaN(), Most: math.NaN(),
		Error: MedianError(values), Count: len(values)}
	if len(values) > 0 {
		s.Least, s.Most = slices.Min(values), slices.Max(values)
	}
	return s
}
