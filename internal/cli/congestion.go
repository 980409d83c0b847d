package cli

import (
	"errors"

	"culvert/internal/cli/flags"
	"culvert/internal/congestion"
)

// congestionOption chooses the congestion control of carriers.
type congestionOption struct{ choice string }

func (o *congestionOption) define(s *flags.Set) {
	s.Group("session")
	s.String(&o.choice, "congestion", congestion.Auto, "send to the other end under the congestion "+
		"control `NAME` of this system: auto for BBR where the system permits it and the other end is "+
		"on another machine, system for what it has, or one by its name; Linux only").
		Values(congestion.Auto, congestion.System)
}

func (o *congestionOption) check() error {
	err := congestion.Check(o.choice)
	if err == nil {
		return nil
	}
	advice := "it is auto or system"
	if errors.Is(err, congestion.ErrUnknown) {
		advice = "it is auto, system, or one of /proc/sys/net/ipv4/tcp_available_congestion_control"
	}
	return &flags.ValueError{
		Flag: "congestion", Value: o.choice, Why: err.Error(), Form: advice, Example: congestion.Auto,
	}
}
