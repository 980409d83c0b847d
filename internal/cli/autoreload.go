package cli

import (
	"culvert/internal/cli/flags"
	"culvert/internal/filewatch"

	"github.com/rs/zerolog"
)

// autoReload reloads a remote when one of the files changes that a reload reads. Its methods do
// nothing when that is turned off.
type autoReload struct {
	off     bool
	watcher *filewatch.Watcher // nil when off
}

func (a *autoReload) define(s *flags.Set) {
	s.Group("reload")
	s.Bool(&a.off, "no-auto-reload",
		"don't reload when a file changes that a reload reads again, only on a signal")
}

// look begins to watch files, which the caller reads afterwards.
func (a *autoReload) look(files []string) {
	if !a.off {
		a.watcher = filewatch.New(files)
	}
}

// start requests reloads from now on, until stop is called.
func (a *autoReload) start(requests reloads, log zerolog.Logger) (stop func()) {
	if a.watcher == nil {
		return func() {}
	}
	if err := a.watcher.Start(requests.request); err != nil {
		log.Warn().Err(err).Msg("changes of files are noticed within half a minute, not at once")
	}
	return a.watcher.Close
}

// seen makes the files count as they are now. It is called before a reload reads them.
func (a *autoReload) seen() {
	if a.watcher != nil {
		a.watcher.Seen()
	}
}

// made makes a file that was made count as it is now.
func (a *autoReload) made(path string) {
	if a.watcher != nil {
		a.watcher.Made(path)
	}
}

// files returns the files that a reload reads.
func (o *remoteOptions) files() []string {
	key := o.identity.key
	if key == "" {
		key, _ = defaultKey() // loadSettings reports the error
	}
	var files []string
	for _, path := range []string{
		o.source.File(), key, o.identity.cert, o.admission.authorizedKeys, o.admission.ca,
		o.admission.revoked, o.listen.tlsCert, o.listen.tlsKey,
	} {
		if path != "" {
			files = append(files, path)
		}
	}
	return files
}
