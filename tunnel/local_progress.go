package tunnel

import (
	"culvert/internal/netfault"
	"errors"
	"time"
)

// Step is a step on the way to a session.
type Step string

// The steps in their order. StepDNS is missing for an address, StepProxy without a proxy, StepTLS
// for ws://. With a proxy, the first two are about the proxy.
const (
	StepDNS       Step = "dns"
	StepTCP       Step = "tcp"
	StepProxy     Step = "proxy"
	StepTLS       Step = "tls"
	StepUpgrade   Step = "upgrade"
	StepHandshake Step = "handshake"
	StepSession   Step = "session"
)

// BeforeRemote reports whether the step comes before anything is sent to the remote. With a proxy,
// such a step is about the proxy.
func (s Step) BeforeRemote() bool { return s == StepDNS || s == StepTCP || s == StepProxy }

// Progress reports a step that has ended.
type Progress struct {
	Step   Step
	Took   time.Duration
	Detail string // the result, for people
	Err    error
}

// stepClock times and reports the steps of one attempt. It is for a single goroutine.
type stepClock struct {
	report func(Progress) // may be nil
	began  time.Time
	step   Step
	kept   error // of a dial function, since the WebSocket dialer may hide it
}

func (s *stepClock) begin(step Step) { s.step, s.began = step, time.Now() }

func (s *stepClock) end(detail string) {
	if s.report != nil {
		s.report(Progress{Step: s.step, Took: time.Since(s.began), Detail: detail})
	}
}

func (s *stepClock) keep(err error) error {
	s.kept = err
	return err
}

// fail reports the current step as failed and returns err as a *ConnectError.
func (s *stepClock) fail(err error) error {
	var known *ConnectError
	if !errors.As(err, &known) {
		err = &ConnectError{s.step, netfault.Cause(err)}
	}
	if s.report != nil {
		s.report(Progress{Step: s.step, Took: time.Since(s.began), Err: err})
	}
	return err
}
