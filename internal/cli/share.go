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
	streams  int
}

func (o *shareOptions) define(s *flags.Set) {
	s.Group("share of one client")
	s.Int(&o.sessions, "client-sessions", tunnel.DefaultClientSessions,
		"limit the concurrent sessions of one client to `N`; sessions=N in the line of its key "+
			"takes precedence").Reloadable()
	s.Int(&o.streams, "client-streams", tunnel.DefaultClientStreams,
		"limit the concurrent streams of one client, in all its sessions, to `N`; likewise streams=N").
		Reloadable()
}

// parse returns the share of a client whose line has no options.
func (o *shareOptions) parse() (share policy.Share, err error) {
	if o.sessions < 1 || o.streams < 1 {
		return share, exit.Usagef("give a number from 1",
			"--client-sessions or --client-streams is out of range")
	}
	return policy.Share{Sessions: o.sessions, Streams: o.streams}, nil
}
