package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/systemd"

	"github.com/rs/zerolog"
)

// abortTimeout bounds how long the second signal waits for connections to be reset.
const abortTimeout = time.Second

// closeTime is how long a node may drain whose console closes: Windows ends it 5 s after it has
// said so.
const closeTime = 3 * time.Second

// sameSignal is how soon after the first signal its repetition is taken for the same: timeout(1)
// sends one to the process and one to its group.
const sameSignal = 20 * time.Millisecond

// hangup is what SIGHUP does.
type hangup int

const (
	hangupReloads hangup = iota
	hangupEnds           // the terminal is gone, and with it whoever started the command
	hangupIgnored        // as under nohup(1)
)

// hangupAction decides what SIGHUP does. It is called when the process starts: later, a terminal
// that is gone can't be told from none.
func hangupAction() hangup {
	switch {
	case signal.Ignored(syscall.SIGHUP):
		return hangupIgnored
	case hasTerminal():
		return hangupEnds
	}
	return hangupReloads
}

// interrupts turns signals into contexts and reloads.
type interrupts struct {
	soft    context.Context // ends at the first signal that stops: drain
	hard    context.Context // ends at the second SIGINT or SIGTERM: stop at once
	reloads reloads
	stop    func() // releases the signals

	manager systemd.Notifier // is told what they do

	onHangup atomic.Int32 // a hangup

	first os.Signal // that ended soft; set before
	drain func()    // ends soft without a signal

	cuts   chan error            // ends both, with an error for the command
	broken atomic.Pointer[error] // that error
}

// catchInterrupts starts catching signals. If the program has not ended abortTimeout after the
// second signal, it exits, so that nothing can hold it.
func catchInterrupts(parent context.Context, log zerolog.Logger) *interrupts {
	soft, cancelSoft := context.WithCancel(parent)
	hard, cancelHard := context.WithCancel(parent)
	i := &interrupts{soft: soft, hard: hard, drain: cancelSoft, reloads: newReloads(),
		cuts: make(chan error, 1)}
	i.onHangup.Store(int32(hangupAction()))
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(signals, reloadSignals...)
	if i.hangup() != hangupIgnored {
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	var catching sync.WaitGroup
	catching.Go(func() { i.catch(signals, done, cancelHard, log) })
	i.stop = func() {
		if i.soft.Err() != nil && i.hangup() == hangupEnds {
			signal.Ignore(syscall.SIGHUP) // one that comes late must not kill what is about to exit
		}
		signal.Stop(signals)
		close(done)
		catching.Wait()
		cancelSoft()
		cancelHard()
	}
	return i
}

// catch acts on signals until done is closed.
func (i *interrupts) catch(
	signals chan os.Signal, done <-chan struct{}, cancelHard func(), log zerolog.Logger,
) {
	var giveUp, late <-chan time.Time
	closing := consoleCloses()
	stopping := false // because of a signal
	for {
		select {
		case s := <-signals:
			hangs := s == syscall.SIGHUP
			switch {
			case isReload(s), hangs && i.hangup() == hangupReloads:
				i.reloads.request()
			case !stopping:
				stopping = true
				if i.soft.Err() == nil { // else it drains already, as after a take-over
					i.first = s
				}
				i.drain()
				dropRepeats(signals, s)
				log.Info().Stringer("signal", s).Msg("stopping")
			case !hangs && giveUp == nil: // a terminal's end may bring several hangups
				cancelHard()
				giveUp = time.After(abortTimeout)
			}
		case err := <-i.cuts:
			i.broken.Store(&err)
			i.drain()
			cancelHard()
			giveUp = time.After(abortTimeout)
		case <-closing: // with a SIGTERM
			closing, late = nil, time.After(closeTime)
		case <-late:
			cancelHard()
		case <-giveUp:
			os.Exit(exit.Failed)
		case <-done:
			return
		}
	}
}

func (i *interrupts) hangup() hangup { return hangup(i.onHangup.Load()) }

// leaveTerminal makes SIGHUP reload, where the end of the terminal sent it until now.
func (i *interrupts) leaveTerminal() {
	i.onHangup.CompareAndSwap(int32(hangupEnds), int32(hangupReloads))
}

// cut stops at once, as the second signal does, but with an error as the command's.
func (i *interrupts) cut(err error) {
	select {
	case i.cuts <- err:
	default: // it is cut already
	}
}

// dropRepeats receives the repetitions of a signal that come within sameSignal.
func dropRepeats(signals chan os.Signal, s os.Signal) {
	end := time.After(sameSignal)
	for {
		select {
		case next := <-signals:
			if next == s {
				continue
			}
			select {
			case signals <- next:
			default: // as many others wait, and do as well
			}
			return
		case <-end:
			return
		}
	}
}

// result returns the command's error: err, why it was cut, or that a second signal came.
func (i *interrupts) result(err error) error {
	if broken := i.broken.Load(); broken != nil {
		return *broken
	}
	if i.hard.Err() != nil {
		return exit.Fail(exit.Failed, "interrupted twice: connections were cut short", nil, "")
	}
	return err
}

// beforeReady returns the error of a command that was stopped before it was ready: it is that of
// SIGINT, with which a user ends a command that has done nothing yet.
func (i *interrupts) beforeReady() error {
	if i.soft.Err() != nil && i.first == syscall.SIGINT {
		return i.result(exit.Status(exitSignal + int(syscall.SIGINT)))
	}
	return i.result(nil)
}

// reloads are requests to reload, or to reconnect. Several that come before one is served are one.
type reloads chan struct{}

func newReloads() reloads { return make(reloads, 1) }

func (r reloads) request() {
	select {
	case r <- struct{}{}:
	default:
	}
}

// watch calls act at each request until stop is called.
func (r reloads) watch(act func()) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-r:
				act()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}
