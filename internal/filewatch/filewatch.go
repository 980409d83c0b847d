// Package filewatch notices that files have changed, however they are replaced: written in place,
// renamed over, or through a symbolic link to another folder, as package managers, editors,
// certbot and Kubernetes do it.
package filewatch

import (
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long files have to stay the same before a change counts: a file that is
	// written in place is empty at first.
	settleTime = 300 * time.Millisecond

	// pollInterval is how often the files are looked at without a notice: network file systems give
	// none, and a watch ends with its folder.
	pollInterval = 30 * time.Second
)

// Watcher watches files. All methods may be called concurrently.
type Watcher struct {
	paths   []string
	changed func()
	notices *fsnotify.Watcher // nil where the system gives none

	stop chan struct{} // closed by Close
	done chan struct{} // closed when the goroutine has ended

	mu    sync.Mutex // guards known
	known files      // that changed was called for
}

// files are the files as they were at some time, by path. Those that can't be looked at are
// missing.
type files map[string]file

// file identifies the content of a file.
type file struct {
	target   string // that symbolic links lead to
	info     os.FileInfo
	size     int64
	mode     os.FileMode
	modified int64 // in nanoseconds
	owner    owner // on whom it depends whether a file is taken
}

func (f file) equal(other file) bool {
	return f.target == other.target && os.SameFile(f.info, other.info) && f.size == other.size &&
		f.mode == other.mode && f.modified == other.modified && f.owner == other.owner
}

// New returns a Watcher for the files at paths, which need not exist. A caller that reads them
// after New misses no change.
func New(paths []string) *Watcher {
	w := &Watcher{paths: paths, stop: make(chan struct{}), done: make(chan struct{})}
	w.known = w.look()
	return w
}

// Start starts the Watcher, which Close ends. When the files are no longer as they were at New, it
// calls changed on its goroutine. An error means that changes are noticed only within half a
// minute, since the system gives no notices of them.
func (w *Watcher) Start(changed func()) error {
	w.changed = changed
	notices, err := fsnotify.NewWatcher()
	if err == nil {
		w.notices = notices
		w.watchFolders()
	}
	go w.run()
	return err
}

// Close ends the Watcher. When it returns, changed is not running and won't be called.
func (w *Watcher) Close() {
	close(w.stop)
	<-w.done
}

// Seen makes the files count as they are now, for a caller that is about to read them.
func (w *Watcher) Seen() {
	now := w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = now
}

// Made makes a file count as it is now, for a caller that has just made it.
func (w *Watcher) Made(path string) {
	now := w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	if made, there := now[path]; there {
		w.known[path] = made
	}
}

func (w *Watcher) run() {
	defer close(w.done)
	var events chan fsnotify.Event
	var errors chan error
	if w.notices != nil {
		defer w.notices.Close()
		events, errors = w.notices.Events, w.notices.Errors
	}
	last := w.look()
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	soon := true // the timer runs for settleTime
	for {
		select {
		case <-events:
			if !soon {
				soon = true
				timer.Reset(settleTime)
			}
			continue
		case <-errors: // such as too many notices at once
			continue
		case <-w.stop:
			return
		case <-timer.C:
		}
		w.watchFolders()
		now := w.look()
		if soon = !now.equal(last); soon {
			last = now
			timer.Reset(settleTime)
			continue
		}
		timer.Reset(pollInterval)
		if w.isNew(now) {
			w.changed()
		}
	}
}

// isNew reports whether files are others than changed was called for, and notes them.
func (w *Watcher) isNew(now files) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.equal(w.known) {
		return false
	}
	w.known = now
	return true
}

func (w *Watcher) look() files {
	found := make(files)
	for _, path := range w.paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			target = path
		}
		found[path] = file{target, info, info.Size(), info.Mode(), info.ModTime().UnixNano(),
			ownerOf(info)}
	}
	return found
}

func (f files) equal(other files) bool { return maps.EqualFunc(f, other, file.equal) }

// watchFolders asks for notices of the folders of all files, and of those that links lead to: a
// file that is replaced is another one, but its folder stays. A folder that is watched already
// makes no difference, and one that is gone is tried again.
func (w *Watcher) watchFolders() {
	if w.notices == nil {
		return
	}
	for _, path := range w.paths {
		_ = w.notices.Add(filepath.Dir(path))
		if target, err := filepath.EvalSymlinks(path); err == nil {
			_ = w.notices.Add(filepath.Dir(target))
		}
	}
}
