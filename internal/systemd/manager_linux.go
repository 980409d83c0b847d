package systemd

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"
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

// LogsStderr reports whether the manager's journal reads standard error, and wants the priority of
// each line in front of it.
func LogsStderr() bool {
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}
