//go:build unix

package testnet

import (
	"os"
	"os/signal"
	"syscall"
)

// TakeHangups makes the processes that this one starts take SIGHUP, also when this one was started
// by nohup: a signal that is ignored stays so in them, one that is handled has its default.
func TakeHangups() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}
