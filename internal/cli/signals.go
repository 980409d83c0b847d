package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"culvert/internal/cli/exit"

	"github.com/rs/zerolog"
)

// abortTimeout bounds how long the second signal waits for connections to be reset.
const abortTimeout = time.Second

// interrupts turns signals into contexts.
type interrupts struct {
	soft context.Context // ends at the first SIGINT or SIGTERM: drain and stop
	hard context.Context // ends at the second: stop at once, cutting short what is left
	stop func()          // releases the signals
}

// catchInterrupts starts catching signals. If the program has not ended abortTimeout after the
// second signal, it exits, so that nothing can hold it.
func catchInterrupts(parent context.Context, log zerolog.Logger) *interrupts {
	soft, cancelSoft := context.WithCancel(parent)
	hard, cancelHard := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	var catching sync.WaitGroup
	catching.Go(func() {
		var giveUp <-chan time.Time
		for {
			select {
			case s := <-signals:
				if soft.Err() == nil {
					log.Info().Stringer("signal", s).Msg("stopping")
					cancelSoft()
				} else if giveUp == nil {
					cancelHard()
					giveUp = time.After(abortTimeout)
				}
			case <-giveUp:
				os.Exit(exit.Failed)
			case <-done:
				return
			}
		}
	})
	return &interrupts{soft, hard, func() {
		signal.Stop(signals)
		close(done)
		catching.Wait()
		cancelSoft()
		cancelHard()
	}}
}

// result returns the command's error: err, or that a second signal came.
func (i *interrupts) result(err error) error {
	if i.hard.Err() != nil {
		return exit.Fail(exit.Failed, "interrupted twice: connections were cut short", nil, "")
	}
	return err
}

// onHangup calls act at each SIGHUP, until ctx is done or stop is called.
func onHangup(ctx context.Context, act func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-hangups:
				act()
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		cancel()
		watching.Wait()
	}
}
