// Package cli is culvert's command line: one file a command, each of which turns flags into a configuration, runs it and
// reports. What the commands promise to scripts is in docs/cli.md.
//
// Standard output carries only what was asked for; logs and errors go to standard error. Errors are *Failure: the line
// for people and the exit status are chosen where the meaning is known, and printed once, by Main.
package cli
