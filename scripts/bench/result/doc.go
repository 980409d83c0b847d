// Package result holds what the benchmark has measured, as it is stored in JSON, and what follows
// from that: medians, ratios, and which bars are reached.
//
// result.go is what is stored, stat.go the statistics, bar.go the bars.
package result
