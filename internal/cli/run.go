package cli

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
)

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. A second one ends the process at once.
func untilSignal(parent context.Context, log zerolog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	done := make(chan struct{})
	ended := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer close(ended)
		for range 2 {
			select {
			case s := <-signals:
				if ctx.Err() != nil {
					os.Exit(exitFailed)
				}
				log.Info().Stringer("signal", s).Msg("stopping")
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
		close(done)
		<-ended
	}
}

// readyLine is what --print-ready prints: the addresses that were really bound, in the order of their flags.
type readyLine struct {
	Event     string   `json:"event"` // "ready"
	Listen    []string `json:"listen,omitempty"`
	Socks     string   `json:"socks,omitempty"`
	Forwards  []string `json:"forwards,omitempty"`
	PublicKey string   `json:"public_key"`
}

func printReadyLine(line readyLine) {
	line.Event = "ready"
	json.NewEncoder(os.Stdout).Encode(line)
}
