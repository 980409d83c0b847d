// Package result holds the benchmark's results, as stored in JSON, and what is derived from them:
// medians, ratios, and which bars are reached.
//
// result.go defines what is stored, stat.go the statistics, bar.go the bars.
package result
