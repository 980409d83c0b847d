// Package cli is culvert's command line: one file a command, which turns the command's options into
// a configuration, runs it and reports. What the commands promise to scripts is in docs/cli.md.
//
// Standard output carries only what was asked for; logs and errors go to standard error. Errors are
// *exit.Failure: the line for people and the exit status are chosen where the meaning is known, and
// printed once, by Main.
//
// # From a flag to what it does
//
// A command has an options struct, made of groups such as limitOptions. A group's method define
// defines its flags, each bound to a field. Before the command runs, package flags sets the fields:
// from the command line, the flag's variable, the configuration file or the default. The command
// then checks its options and loads what they name into the configuration of package tunnel.
//
// So a new flag takes a field in its group, a line in the group's define, and the use of the field:
//
//	type limitOptions struct {
//		maxSessions int
//		…
//	}
//
//	func (o *limitOptions) define(s *flags.Set) {
//		s.Group("limits")
//		s.Int(&o.maxSessions, "max-sessions", tunnel.DefaultMaxSessions,
//			"limit concurrent clients to `N`")
//		…
//	}
//
//	func (o *remoteOptions) nodeConfig(…) (tunnel.RemoteConfig, error) {
//		return tunnel.RemoteConfig{
//			MaxSessions: o.limits.maxSessions,
//			…
//
// Its variable CULVERT_MAX_SESSIONS, its key in the configuration file, its help, its completion
// and the suggestions for misspellings follow from the definition; a test compares its row in
// docs/cli.md. The help begins with the flags that are marked Common, after two examples that each
// command has. A flag that a reload takes from the configuration file again is marked Reloadable,
// and applied in (*remoteOptions).reload.
package cli
