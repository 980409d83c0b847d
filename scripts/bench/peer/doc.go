// Package peer starts what the benchmark compares: culvert, OpenSSH, Xray, and no proxy at all.
// Each peer is a pair of programs: the near end, where its users are, and the far end, where the
// target is. Both may run in network namespaces of their own.
//
// peer.go lists the peers, host.go describes where a program runs, and each program has a file.
package peer
