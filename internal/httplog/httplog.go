// Package httplog fits the log of net/http, which has no levels, into a log that has them.
package httplog

import (
	"bytes"
	stdlog "log"
	"net/http"
	"runtime/debug"

	"github.com/rs/zerolog"
)

// New returns a logger for http.Server.ErrorLog and the like. It logs at the debug level: net/http
// has a line for each peer that speaks no HTTP or no TLS, which is nobody's fault here. The server
// needs Recover as well.
func New(log zerolog.Logger) *stdlog.Logger { return stdlog.New(Writer{log}, "", 0) }

// Writer logs what is written to it at the debug level, an event a write.
type Writer struct{ Log zerolog.Logger }

// Write implements io.Writer. It never fails.
func (w Writer) Write(p []byte) (int, error) {
	w.Log.Debug().Msg(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// Recover returns a handler that logs the panics of next as errors, and aborts the request.
// net/http would only write them to its own log.
func Recover(log zerolog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			if reason != http.ErrAbortHandler {
				log.Error().Any("panic", reason).Bytes("stack", debug.Stack()).
					Msg("a request's handler panicked")
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}
