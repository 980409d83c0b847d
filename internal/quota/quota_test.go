package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path, func(err error) { t.Errorf("not saved: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustUsed(t *testing.T, l *Ledger, client string, want int64) {
	t.Helper()
	if got := l.Used(client); got != want {
		t.Errorf("%s has used %d, want %d", client, got, want)
	}
}

// Counts outlive a restart, also one without Close after a few seconds, and end with their day.
func TestLedgerOutlivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at midnight, UTC
		path := filepath.Join(t.TempDir(), "new", "quota.json")
		l := mustOpen(t, path)
		l.Add("a", 5)
		if got := l.Add("a", 7); got != 12 {
			t.Errorf("used %d", got)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("saved at once: %v", err)
		}
		time.Sleep(saveDelay) // synctest
		synctest.Wait()
		killed := mustOpen(t, path)
		mustUsed(t, killed, "a", 12)
		mustUsed(t, killed, "b", 0)
		killed.Add("b", 1)
		killed.Close()
		again := mustOpen(t, path)
		mustUsed(t, again, "a", 12)
		mustUsed(t, again, "b", 1)

		time.Sleep(24*time.Hour - saveDelay - time.Nanosecond) // synctest
		mustUsed(t, again, "a", 12)
		time.Sleep(time.Nanosecond) // synctest
		mustUsed(t, again, "a", 0)
		next := mustOpen(t, path)
		mustUsed(t, next, "a", 0)
		if got := next.Add("a", 3); got != 3 {
			t.Errorf("used %d on the next day", got)
		}
		next.Close()
		mustUsed(t, mustOpen(t, path), "a", 3)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		entries, _ := os.ReadDir(filepath.Dir(path))
		if len(entries) != 1 {
			t.Errorf("files are left: %v", entries)
		}
	})
}

// A file that can't be written stays whole. The failure is reported once, and the counts are saved
// when that is possible again.
func TestLedgerKeepsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		path := filepath.Join(dir, "quota.json")
		first := mustOpen(t, path)
		first.Add("a", 1)
		first.Close()
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var reports []error
		l, err := Open(path, func(err error) { reports = append(reports, err) })
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir, dir+"-moved"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // in place of the folder
			t.Fatal(err)
		}
		l.Add("a", 1)
		time.Sleep(10 * saveDelay) // synctest
		synctest.Wait()
		if len(reports) != 1 {
			t.Errorf("reports: %v", reports)
		}
		os.Remove(dir)
		if err := os.Rename(dir+"-moved", dir); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(whole) {
			t.Errorf("the file has changed: %q, %v", now, err)
		}
		time.Sleep(saveDelay) // synctest
		synctest.Wait()
		mustUsed(t, mustOpen(t, path), "a", 2)
		l.Close()
	})
}

// Any file is either counts or an error that names it.
func TestLedgerOfBadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quota.json")
	for _, text := range []string{"", "{", `{"day":"yesterday"}`, `{"day":"2026-01-02","used":[1]}`,
		`{"day":"2026-01-02","used":{"a":1.5}}`, "[]", strings.Repeat(" ", maxFile+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"day":"2026-01-02"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, path)
	l.Add("a", 1)
	l.Close()
}

// The number of clients is bounded: those that have used least are forgotten.
func TestLedgerIsBounded(t *testing.T) {
	l := mustOpen(t, "")
	defer l.Close()
	for i := range maxClients {
		l.Add(fmt.Sprint(i), int64(maxClients-i))
	}
	l.Add("another", 1)
	first, last := maxClients-roomClients-1, maxClients-roomClients // to stay, and to be forgotten
	if len(l.used) != maxClients-roomClients+1 || l.Used("0") == 0 || l.Used("another") != 1 ||
		l.Used(fmt.Sprint(first)) == 0 || l.Used(fmt.Sprint(last)) != 0 {
		t.Errorf("%d clients", len(l.used))
	}
}

// TestLedgerMakesRoomForMany: of clients that have used the same, as few are forgotten, and the
// search for them is not repeated for each client that comes.
func TestLedgerMakesRoomForMany(t *testing.T) {
	l := mustOpen(t, "")
	defer l.Close()
	l.Add("most", 2)
	for i := range maxClients + roomClients - 1 {
		l.Add(fmt.Sprint(i), 1)
	}
	if len(l.used) != maxClients || l.Used("most") != 2 {
		t.Errorf("%d clients, of which the one that used most has %d", len(l.used), l.Used("most"))
	}
}

// TestLedgerMoves: counts go on in another file, as when a remote gets another key.
func TestLedgerMoves(t *testing.T) {
	dir := t.TempDir()
	before, after := filepath.Join(dir, "before"), filepath.Join(dir, "after")
	l := mustOpen(t, before)
	l.Add("a", 1)
	l.Move(after)
	l.Add("a", 1)
	l.Close()
	mustUsed(t, mustOpen(t, after), "a", 2)

	none := mustOpen(t, "")
	none.Add("a", 1)
	none.Move(before)
	none.Close()
	mustUsed(t, mustOpen(t, before), "a", 0)
}

// Nothing is lost when a file is written while others count.
func TestLedgerCountsInParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quota.json")
	l := mustOpen(t, path)
	var counting sync.WaitGroup
	for range 8 {
		counting.Go(func() {
			for range 1000 {
				l.Add("a", 1)
			}
		})
	}
	for range 5 {
		l.save()
	}
	counting.Wait()
	l.Close()
	mustUsed(t, mustOpen(t, path), "a", 8000)
}
