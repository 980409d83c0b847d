// Package flags turns a command line, environment variables and a configuration file into the
// options of a command. It also prints the help, completes command lines in shells, and suggests
// what a misspelled word may have meant. It knows nothing of what the options are for.
//
// A command is a Command: a function that defines its flags and arguments, each bound to a field of
// the command's options, and a function that runs it. A flag's definition is all that
// there is to it:
//
//	func (o *limitOptions) define(s *flags.Set) {
//		s.Group("limits")
//		s.Int(&o.maxSessions, "max-sessions", 1024, "limit concurrent clients to `N`")
//	}
//
// Its variable, its key in the configuration file, its line in the help and its completion follow
// from that. When the command runs, the field holds the value: the one from the command line, or
// else the variable's, or else the file's, or else the default.
package flags
