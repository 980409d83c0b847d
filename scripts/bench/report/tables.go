package report

import (
	"slices"

	"culvert/scripts/bench/peer"
)

// table is a comparison of the peers.
type table struct {
	title   string
	about   string
	columns []column
	peers   []string
	control string // congestion control of the connections; empty: the system's
	direct  bool   // no proxy is a peer to compare with, not only the ceiling
	plots   []plotted
}

// column is a value of a case.
type column struct {
	head  string
	name  string // of the case
	value string
	digit int // digits after the point
	less  bool
	plain bool // not compared
}

// plotted is a plot of some columns.
type plotted struct {
	file    string
	title   string
	axis    string
	columns []int
}

// tunnels are the peers except for the direct connection.
var tunnels = peer.All[:len(peer.All)-1]

// direct are the peers of the cases that compare with no proxy only.
var direct = []string{peer.Culvert, peer.CulvertSystem, peer.OpenSSHGCM, peer.None}

// tables are all comparisons, in their order.
var tables = slices.Concat(loopbackTables, linkTables)
