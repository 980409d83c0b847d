// Package proc starts the benchmark's programs, ends all that came of them, and reads from /proc
// what a program and its descendants have used.
//
// start.go starts and ends processes, listen.go waits for servers, gone.go for the end of what has
// lost its parent, tree.go finds the descendants of one, use.go adds up their CPU time and memory.
package proc
