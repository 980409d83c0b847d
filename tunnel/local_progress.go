package tunnel

import (
	"context"
	"errors"
	"net/http"
	"time"

	"culvert/internal/netfault"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
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

	// Skew is by how much at least the server's clock is ahead of this machine's, from StepUpgrade on.
	// It is 0 if they may agree, and nil if it is not known.
	Skew *time.Duration
}

// stepClock times and reports the steps of one connection. It is for a single goroutine.
type stepClock struct {
	progress *attemptProgress // nil if nobody is interested
	log      zerolog.Logger
	began    time.Time
	step     Step
	kept     error      // of a dial function, since the WebSocket dialer may hide it
	held     []Progress // by progress, which guards it

	skew *time.Duration // of the server's clock; nil while it is not known

	handshake time.Duration // how long that took; 0 before its end
}

func (s *stepClock) begin(step Step) {
	s.step, s.began = step, time.Now()
	if s.progress != nil {
		s.progress.advance(s.began)
	}
}

func (s *stepClock) end(detail string) {
	s.noteHandshake()
	s.tell(Progress{Step: s.step, Took: time.Since(s.began), Detail: detail})
}

// noteHandshake notes how long the handshake took, if that is the current step.
func (s *stepClock) noteHandshake() {
	if s.step == StepHandshake {
		s.handshake = time.Since(s.began)
	}
}

// noteClock compares the clocks of both ends, going by the response to the upgrade, which is the
// current step.
func (s *stepClock) noteClock(header http.Header) {
	if skew, known := skewOf(header, s.began, time.Now()); known {
		s.skew = &skew
	}
}

func (s *stepClock) tell(p Progress) {
	p.Skew = s.skew
	event := s.log.Debug().Str("step", string(p.Step)).Dur("took", p.Took).Err(p.Err)
	if p.Detail != "" {
		event.Str("detail", p.Detail)
	}
	event.Msg("connecting")
	if s.progress != nil {
		s.progress.add(s, p)
	}
}

func (s *stepClock) keep(err error) error {
	s.kept = err
	return err
}

// fail reports the current step as failed and returns err as a *ConnectError. If ctx is done, that
// is the cause, unless the remote itself is.
func (s *stepClock) fail(ctx context.Context, err error) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // a deadline of the connection may fire a little before
	}
	var known *ConnectError
	if s.skew != nil && s.skew.Abs() >= ClockNotice && dependsOnClock(err) {
		err = &ClockError{*s.skew, err}
	}
	switch {
	case ctx.Err() != nil && !isFinal(err) && !errors.Is(err, mux.ErrNotCulvert):
		err = &ConnectError{Step: s.step, Err: context.Cause(ctx)}
	case !errors.As(err, &known):
		err = &ConnectError{Step: s.step, Err: netfault.Cause(err)}
	}
	s.noteHandshake()
	if errors.As(err, &known) {
		known.handshake = s.handshake
	}
	s.tell(Progress{Step: s.step, Took: time.Since(s.began), Err: err})
	return err
}
