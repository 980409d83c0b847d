// Package report writes the benchmark's results for people: tables in Markdown, between two markers
// in benchmarks.md, and plots as SVG files next to it.
//
// tables.go defines the tables, markdown.go writes them, plots.go draws, write.go puts all
// into the folder.
package report
