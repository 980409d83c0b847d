// Package peer starts what the benchmark compares: culvert, OpenSSH, Xray, and no proxy at all.
// Each peer is a pair of programs, one near its users and one far, by the target, which may be in
// network namespaces of their own.
//
// peer.go lists them, host.go where a program runs, and there is a file for each program.
package peer
