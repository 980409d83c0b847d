package cli

import (
	"sync"

	"golang.org/x/sys/windows"
)

// consoleClosing is closed once the console closes, or the system shuts down.
var consoleClosing = make(chan struct{})

// consoleCloses returns a channel that is closed once the console closes, or the system shuts down.
// Package os/signal makes a SIGTERM of that, and of a logoff, which only services are told of, of
// whoever it is: from now on those are ignored.
func consoleCloses() <-chan struct{} {
	watchConsole()
	return consoleClosing
}

// watchConsole adds a handler (SetConsoleCtrlHandler), which is asked before that of the runtime.
var watchConsole = sync.OnceFunc(func() {
	closing := sync.OnceFunc(func() { close(consoleClosing) })
	handler := windows.NewCallback(func(event uint32) uintptr {
		switch event {
		case windows.CTRL_LOGOFF_EVENT:
			return 1 // handled
		case windows.CTRL_CLOSE_EVENT, windows.CTRL_SHUTDOWN_EVENT:
			closing()
		}
		return 0
	})
	// Without the handler, logoffs end the node, and closing the console cuts its drain.
	_, _, _ = windows.NewLazySystemDLL("kernel32.dll").NewProc("SetConsoleCtrlHandler").
		Call(handler, 1)
})
