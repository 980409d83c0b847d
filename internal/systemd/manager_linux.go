package systemd

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

func send(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// watchdogTime returns within what time the watchdog has to be fed, 0 if there is none.
func watchdogTime() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }

// monotonicTime returns when a reload began, as Type=notify-reload wants it.
func monotonicTime() string { return daemon.SdNotifyMonotonicUsec() }
