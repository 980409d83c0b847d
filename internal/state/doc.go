// Package state is what a running node reports about itself to the status page, and as JSON to
// scripts. Fields are added, never removed or changed.
//
// A [Source] takes snapshots when an observer asks for one, and adds rates. [Events] keeps the last
// events and passes new ones on. Neither makes the node wait: a slow observer misses events.
package state
