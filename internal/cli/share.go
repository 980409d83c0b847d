package cli

import (
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel"
	"culvert/tunnel/policy"
)

// shareOptions bound what one client may use of a remote, unless the line of its key decides that.
type shareOptions struct {
	sessions int
}

func (o *shareOptions) define(s *flags.Set) {
	s.Group("share of one client")
	s.Int(&o.sessions, "client-sessions", tunnel.DefaultClientSessions,
		"limit the concurrent sessions of one client to `N`; sessions=N in the line of its key "+
			"takes precedence").Reloadable()
}

// parse returns the share of a client whose line has no options.
func (o *shareOptions) parse() (share policy.Share, err error) {
	if o.sessions < 1 {
		return share, exit.Usagef("give a number from 1", "--client-sessions is out of range")
	}
	return policy.Share{Sessions: o.sessions}, nil
}
