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

// Summary is the median and the range of some values.
type Summary struct {
	Median, Least, Most float64
	Count               int
}

// Summarize returns a summary of values. For no values, its numbers are NaN.
func Summarize(values []float64) Summary {
	s := Summary{Median(values), math.NaN(), math.NaN(), len(values)}
	if len(values) > 0 {
		s.Least, s.Most = slices.Min(values), slices.Max(values)
	}
	return s
}
