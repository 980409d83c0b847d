// Package quota counts the bytes that clients use in a day, and keeps the counts in a file. Days
// are those of UTC.
package quota

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/natefinch/atomic"
)

const (
	// saveDelay is how long a change may wait to be saved: what a process that is killed forgets.
	saveDelay = 5 * time.Second

	// maxClients bounds the clients that are counted, some hundred bytes each. When another comes,
	// the roomClients that have used least are forgotten at once: to find them takes milliseconds.
	maxClients  = 64 << 10
	roomClients = maxClients / 16

	// maxFile bounds the file, in bytes: room for as many clients.
	maxFile = 8 << 20
)

// Ledger counts the bytes of clients. Its methods may be called concurrently.
type Ledger struct {
	onError func(error)

	saving sync.Mutex // held while the file is written

	mu     sync.Mutex // guards all below
	path   string     // "" for none
	day    int64      // that the counts are of, in days since 1970
	used   map[string]int64
	timer  *time.Timer // saves what has changed; nil when nothing has
	closed bool
	failed bool // the last attempt to save
}

// file is the form of the file.
type file struct {
	Day  string           `json:"day"`
	Used map[string]int64 `json:"used"`
}

// Open returns a ledger that continues with the counts in a file, unless it is missing, and saves
// them there soon after each change. An empty path is for none. A failure to save is reported to
// onError once, until an attempt succeeds.
func Open(path string, onError func(error)) (*Ledger, error) {
	l := &Ledger{path: path, onError: onError, day: today(), used: map[string]int64{}}
	if path == "" {
		return l, nil
	}
	saved, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if saved.Day == dayText(l.day) {
		l.used = saved.Used
	}
	return l, nil
}

func read(path string) (saved file, err error) {
	f, err := os.Open(path)
	if err != nil {
		return saved, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return saved, err
	}
	if len(text) > maxFile {
		return saved, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	if err := json.Unmarshal(text, &saved); err != nil {
		return saved, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := time.Parse(time.DateOnly, saved.Day); err != nil || len(saved.Used) > maxClients {
		return saved, fmt.Errorf("%s: not the use of quotas", path)
	}
	if saved.Used == nil {
		saved.Used = map[string]int64{}
	}
	return saved, nil
}

func today() int64 { return time.Now().Unix() / (24 * 60 * 60) }

func dayText(day int64) string {
	return time.Unix(day*24*60*60, 0).UTC().Format(time.DateOnly)
}

// Add counts n bytes of a client, and returns what it has used today with them.
func (l *Ledger) Add(client string, n int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginDayLocked()
	if _, known := l.used[client]; !known && len(l.used) >= maxClients {
		l.makeRoomLocked()
	}
	l.used[client] += n
	l.saveSoonLocked()
	return l.used[client]
}

// Used returns what a client has used today.
func (l *Ledger) Used(client string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginDayLocked()
	return l.used[client]
}

// beginDayLocked forgets the counts of another day. That may be a later one if the clock was set.
func (l *Ledger) beginDayLocked() {
	if day := today(); day != l.day {
		l.day = day
		clear(l.used)
	}
}

// makeRoomLocked forgets the clients that have used least.
func (l *Ledger) makeRoomLocked() {
	counts := slices.Sorted(maps.Values(l.used))
	most := counts[roomClients-1] // of those to forget
	less, _ := slices.BinarySearch(counts, most)
	for client, used := range l.used {
		switch {
		case used < most:
			delete(l.used, client)
		case used == most && less < roomClients:
			delete(l.used, client)
			less++
		}
	}
}

// saveSoonLocked schedules a save of the counts.
func (l *Ledger) saveSoonLocked() {
	if l.timer == nil && l.path != "" && !l.closed {
		l.timer = time.AfterFunc(saveDelay, l.save)
	}
}

// save saves the counts, or reports why it can't, and tries again later.
func (l *Ledger) save() {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	l.timer = nil
	path, now := l.path, file{dayText(l.day), maps.Clone(l.used)} // nobody waits for the encoding
	l.mu.Unlock()
	text, err := json.Marshal(now)
	if err == nil {
		err = write(path, text)
	}
	l.mu.Lock()
	report := err != nil && !l.failed
	if l.failed = err != nil; l.failed {
		l.saveSoonLocked()
	}
	l.mu.Unlock()
	if report && l.onError != nil {
		l.onError(err)
	}
}

// write replaces the file, or leaves it as it is.
func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomic.WriteFile(path, bytes.NewReader(text))
}

// Move makes the counts go to another file from now on, unless they go to none.
func (l *Ledger) Move(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != "" && l.path != path {
		l.path = path
		l.saveSoonLocked()
	}
}

// RemoveLeftovers removes what a process left that was killed in write: files whose names have
// digits after the path. No other process may write the file now. It is no failure to have none, or
// no right to remove them.
func (l *Ledger) RemoveLeftovers() {
	l.mu.Lock()
	dir, base := filepath.Split(l.path)
	l.mu.Unlock()
	if base == "" {
		return
	}
	entries, _ := os.ReadDir(filepath.Clean(dir))
	for _, entry := range entries {
		digits, ok := strings.CutPrefix(entry.Name(), base)
		if ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// Flush saves what has changed.
func (l *Ledger) Flush() {
	l.mu.Lock()
	changed := l.timer != nil
	if changed {
		l.timer.Stop() // or its save is about to begin
	}
	l.mu.Unlock()
	if changed {
		l.save()
	}
	// A save that the timer has begun.
	l.saving.Lock()
	defer l.saving.Unlock()
}

// Close saves what has changed. Later changes are not saved.
func (l *Ledger) Close() {
	l.mu.Lock()
	changed := l.timer != nil
	if changed {
		l.timer.Stop() // or its save is about to begin, or done when save below is
	}
	l.closed = true
	l.mu.Unlock()
	if changed {
		l.save()
	}
	l.saving.Lock() // a save that began before has ended
	defer l.saving.Unlock()
}
