// Package state is what a running node reports about itself: to `culvert status` through the
// control socket, to the status page, and to scripts. docs/status.md describes its JSON form, and
// docs/state.schema.json is the schema. Fields are added, never removed or changed.
//
// A [Source] takes snapshots when an observer asks for one, and adds rates. [Events] keeps the last
// events and passes new ones on. Neither makes the node wait: a slow observer misses events.
package state
