// Package report presents the benchmark's results: as tables in Markdown, between two markers in
// benchmarks.md, and as plots in SVG files.
//
// tables.go, tables_loopback.go and tables_link.go define the tables, markdown.go formats them,
// plots.go draws the plots, write.go writes both into the folder.
package report
