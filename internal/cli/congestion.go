package cli

import (
	"errors"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/congestion"
)

// congestionOption chooses the congestion control of carriers.
type congestionOption struct{ choice string }

func (o *congestionOption) define(s *flags.Set) {
	s.Group("session")
	s.String(&o.choice, "congestion", congestion.Auto, "send to the other end under the congestion "+
		"control `NAME` of this system: auto for BBR where the system permits it, system for what it "+
		"has, or one by its name; Linux only").
		Values(congestion.Auto, congestion.System)
}

func (o *congestionOption) check() error {
	err := congestion.Check(o.choice)
	if err == nil {
		return nil
	}
	advice := "give auto or system"
	if errors.Is(err, congestion.ErrUnknown) {
		advice = "give auto, system, or one of /proc/sys/net/ipv4/tcp_available_congestion_control"
	}
	return exit.Usagef(advice, "bad --congestion %q: %v", o.choice, err)
}
