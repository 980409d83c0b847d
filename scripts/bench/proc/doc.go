// Package proc starts the benchmark's programs, ends them with all of their descendants, and reads
// from /proc what a program and its descendants have used.
//
// start.go starts and ends processes, listen.go waits for servers, gone.go waits for orphaned
// processes to exit, tree.go finds the descendants of a process, use.go adds up their CPU time and
// memory, files.go how many files may be open.
package proc
