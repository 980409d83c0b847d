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
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			log.Info().Stringer("signal", s).Msg("stopping")
			cancel()
			select {
			case <-signals:
				os.Exit(exitFailed)
			case <-parent.Done():
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
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
