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
	rate     string
}

func (o *shareOptions) define(s *flags.Set) {
	s.Group("share of one client")
	s.Int(&o.sessions, "client-sessions", tunnel.DefaultClientSessions,
		"limit the concurrent sessions of one client to `N`; sessions=N in the line of its key "+
			"takes precedence").Reloadable()
	s.Int(&o.streams, "client-streams", tunnel.DefaultClientStreams,
		"limit the concurrent streams of one client, in all its sessions, to `N`; likewise streams=N").
		Reloadable()
	s.String(&o.rate, "client-rate", "",
		"limit the bytes a second that one client sends and receives to `UP/DOWN`, such as 20M/- "+
			"(K, M, G; - for no limit); likewise rate=UP/DOWN").Reloadable()
}

const rateHint = "rate=UP/DOWN limits the bytes a second from the client and to it, " +
	"with K, M or G, such as 20M/100M; - is no limit"

// parse returns the share of a client whose line has no options.
func (o *shareOptions) parse() (share policy.Share, err error) {
	if o.sessions < 1 || o.streams < 1 {
		return share, exit.Usagef("give a number from 1",
			"--client-sessions or --client-streams is out of range")
	}
	share = policy.Share{Sessions: o.sessions, Streams: o.streams}
	if o.rate != "" {
		if share.Up, share.Down, err = policy.ParseRate(o.rate); err != nil {
			return share, exit.Usagef(rateHint, "bad --client-rate %q: %v", o.rate, err)
		}
	}
	return share, nil
}
