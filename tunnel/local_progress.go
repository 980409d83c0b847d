package tunnel

import (
	"errors"
	"time"
)

// Step is one step on the way to a session.
type Step string

// The steps, in their order. StepDNS is left out for an address, StepProxy without a proxy, StepTLS for ws://. With a proxy
// the first two are about reaching that.
const (
	StepDNS       Step = "dns"
	StepTCP       Step = "tcp"
	StepProxy     Step = "proxy"
	StepTLS       Step = "tls"
	StepUpgrade   Step = "upgrade"
	StepHandshake Step = "handshake"
	StepSession   Step = "session"
)

// BeforeRemote says that the step is taken before the remote is asked for anything: with a proxy, it is about that.
func (s Step) BeforeRemote() bool { return s == StepDNS || s == StepTCP || s == StepProxy }

// Progress reports a step that has ended.
type Progress struct {
	Step   Step
	Took   time.Duration
	Detail string // what was found, for people
	Err    error
}

// stepClock times the steps of one attempt and reports them. One goroutine uses it.
type stepClock struct {
	report func(Progress) // may be nil
	began  time.Time
	step   Step
	kept   error // of a hook of the WebSocket dialer, which may wrap it beyond recognition
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

// fail reports the present step as failed and returns err as a *ConnectError.
func (s *stepClock) fail(err error) error {
	var known *ConnectError
	if !errors.As(err, &known) {
		err = &ConnectError{s.step, plainCause(err)}
	}
	if s.report != nil {
		s.report(Progress{Step: s.step, Took: time.Since(s.began), Err: err})
	}
	return err
}
