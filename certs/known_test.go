package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/filelock"
)

// openKnown wants the file to be readable.
func openKnown(t testing.TB, path string) *KnownRemotes {
	t.Helper()
	known, err := OpenKnownRemotes(path)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func TestKnownRemotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "culvert", "known_remotes")
	known := openKnown(t, path)
	a, b := newKeyPair(t).Public(), newKeyPair(t).Public()
	if err := known.Check("a.com:443", a); !errors.Is(err, ErrUnknownRemote) {
		t.Errorf("nobody is known: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asking made a file: %v", err)
	}
	if err := errors.Join(known.Add("a.com:443", a), known.Add("[::1]:80", b),
		known.Add("a.com:443", a)); err != nil {
		t.Fatal(err)
	}
	wantModes(t, path, 0o600)
	if got, want := string(readFile(t, path)),
		fmt.Sprintf("a.com:443 %s\n[::1]:80 %s\n", a, b); got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	for _, k := range []*KnownRemotes{known, openKnown(t, path)} {
		if got, ok := k.lookup("a.com:443"); !ok || got != a {
			t.Errorf("looked up %v, %v", got, ok)
		}
		if err := errors.Join(k.Check("a.com:443", a), k.Check("[::1]:80", b)); err != nil {
			t.Error(err)
		}
		if err := k.Check("a.com:444", a); !errors.Is(err, ErrUnknownRemote) {
			t.Errorf("another port: %v", err)
		}
		for _, err := range []error{k.Check("[::1]:80", a), k.Add("[::1]:80", a)} {
			var changed *ChangedKeyError
			if !errors.As(err, &changed) || *changed != (ChangedKeyError{"[::1]:80", b, a, path,
				2}) {
				t.Errorf("a changed key: %v", err)
			} else if !strings.Contains(err.Error(), path+":2") {
				t.Errorf("the error does not name the place: %v", err)
			}
		}
	}
}

// TestKnownRemotesReload: a process that runs learns what has been changed meanwhile, and knows
// what it knew when the file can't be read.
func TestKnownRemotesReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_remotes")
	known, other := openKnown(t, path), openKnown(t, path)
	a, b := newKeyPair(t).Public(), newKeyPair(t).Public()
	if err := errors.Join(known.Add("a:1", a), other.Reload(), other.Forget("a:1"),
		other.Add("a:1", b)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(known.Reload(), known.Check("a:1", b)); err != nil {
		t.Error(err)
	}
	writeFile(t, path, "a:1\n")
	if err := known.Reload(); err == nil {
		t.Error("no error for a bad line")
	}
	if err := known.Check("a:1", b); err != nil {
		t.Error(err)
	}
}

// TestKnownRemotesByteOrderMark: an editor's mark ahead of the first line is no part of an address.
func TestKnownRemotesByteOrderMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_remotes")
	a, b := newKeyPair(t).Public(), newKeyPair(t).Public()
	writeFile(t, path, fmt.Sprintf("\ufeffa:1 %s\n", a))
	known := openKnown(t, path)
	var changed *ChangedKeyError
	if err := known.Check("a:1", b); !errors.As(err, &changed) {
		t.Errorf("another key: %v", err)
	}
	if err := known.Add("\ufeffa:1", b); err == nil {
		t.Error("an address with an invisible character")
	}
	if err := known.Forget("a:1"); err != nil {
		t.Error(err)
	}
	if got := string(readFile(t, path)); got != "" {
		t.Errorf("left: %q", got)
	}
}

// TestKnownRemotesInDevice: /dev/null remembers nothing, and can't be synced.
func TestKnownRemotesInDevice(t *testing.T) {
	if err := openKnown(t, os.DevNull).Add("a:1", newKeyPair(t).Public()); err != nil {
		t.Error(err)
	}
}

func TestKnownRemotesEditedByHand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	a, b, c := newKeyPair(t).Public(), newKeyPair(t).Public(), newKeyPair(t).Public()
	text := fmt.Sprintf("# mine\r\n\n  a:1\t%s  at home = here\r\na:1 %s twice\nb:2 %s", a, a, b)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	known := openKnown(t, path)
	if err := errors.Join(known.Check("a:1", a), known.Check("b:2", b),
		known.Add("c:3", c)); err != nil {
		t.Error(err)
	}
	if got, want := string(readFile(t, path)), text+"\nc:3 "+c.String()+"\n"; got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	for name, k := range map[string]*KnownRemotes{
		"after Add": known, "read again": openKnown(t, path),
	} {
		var changed *ChangedKeyError
		if err := k.Check("c:3", a); !errors.As(err, &changed) || changed.Line != 6 {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Check("a:1", b); !errors.As(err, &changed) || changed.Line != 3 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKnownRemotesBadLines(t *testing.T) {
	a, b := newKeyPair(t).Public(), newKeyPair(t).Public()
	for name, line := range map[string]string{
		"no key":         "a:1",
		"bad key":        "a:1 key",
		"key first":      a.String() + " a:1",
		"low order":      "a:1 " + strings.Repeat("A", 43),
		"contradiction":  "x:1 " + b.String(),
		"control":        "a\x00:1 " + a.String(),
		"not UTF-8":      "a\xff:1 " + a.String(),
		"address length": strings.Repeat("x", maxRemoteAddr+1) + " " + a.String(),
		"line length":    "a:1 " + a.String() + strings.Repeat(" x", maxTrustLine/2),
	} {
		path := filepath.Join(t.TempDir(), "known")
		if err := os.WriteFile(path, []byte("x:1 "+a.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := openKnown(t, path)
		text := "x:1 " + a.String() + "\n" + line + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, openErr := OpenKnownRemotes(path)
		for _, err := range []error{openErr, before.Add("new:1", b)} {
			var bad *LineError
			if !errors.As(err, &bad) || bad.Path != path || bad.Line != 2 ||
				!strings.HasPrefix(err.Error(), path+":2: ") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := string(readFile(t, path)); got != text {
			t.Errorf("%s: the file was changed to %q", name, got)
		}
	}
}

func TestKnownRemotesAddRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	known := openKnown(t, path)
	key := newKeyPair(t).Public()
	for _, addr := range []string{
		"", "#a:1", "a b:1", "a:1\n", "a:1\nb:2 " + key.String(), "a\tb", "a\u2028b", "\xff",
		strings.Repeat("x", maxRemoteAddr+1),
	} {
		if err := known.Add(addr, key); err == nil {
			t.Errorf("added %q", addr)
		}
	}
	if err := known.Add("a:1", PublicKey{}); !errors.Is(err, ErrPublicKey) {
		t.Errorf("added the zero key: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
	if _, err := OpenKnownRemotes(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxTrustFile/2)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := known.Add("a:1", key); !errors.Is(err, ErrTooLarge) {
		t.Errorf("added to a file that is full: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != maxTrustFile {
		t.Errorf("the full file has grown: %v, %v", info, err)
	}
}

// TestKnownRemotesAddAtOnce adds to one file from processes and goroutines: no line is lost, none
// is mixed with another, and of several keys for one address, the first stays.
func TestKnownRemotesAddAtOnce(t *testing.T) {
	const writers, each = 6, 25
	path := filepath.Join(t.TempDir(), "known")
	contested := make([]string, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			args := []string{path, strconv.Itoa(w), strconv.Itoa(each)}
			if w%3 == 0 {
				var err error
				if contested[w], err = childAdd(args); err != nil {
					t.Error(err)
				}
				return
			}
			out, err := child(t, "add", args...).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			contested[w] = strings.TrimSpace(string(out))
		})
	}
	wg.Wait()
	known := openKnown(t, path)
	for w := range writers {
		for i := range each {
			if err := known.Check(addedAddr(w, i), addedKey(w, i)); err != nil {
				t.Errorf("writer %d, line %d: %v", w, i, err)
			}
		}
	}
	if lines := strings.Count(string(readFile(t, path)), "\n"); lines != writers*each+1 {
		t.Errorf("%d lines, want %d", lines, writers*each+1)
	}
	winner, ok := known.lookup("contested:1")
	if !ok {
		t.Error("nobody added what all wanted to add")
	}
	for w, got := range contested {
		if got != winner.String() {
			t.Errorf("writer %d was told of %q, want %q", w, got, winner)
		}
	}
}

func addedAddr(w, i int) string {
	return fmt.Sprintf("%s%d-%d.example:443", strings.Repeat("x", 10*w), w, i)
}
func addedKey(w, i int) PublicKey { return PublicKey{9, byte(w), byte(i), 1} }

// childAdd adds lines of its own, and a contested one; it returns the key that the contested
// address got.
func childAdd(args []string) (string, error) {
	w, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	each, err := strconv.Atoi(args[2])
	if err != nil {
		return "", err
	}
	known, err := OpenKnownRemotes(args[0])
	if err != nil {
		return "", err
	}
	var contested PublicKey
	for i := range each {
		if err := known.Add(addedAddr(w, i), addedKey(w, i)); err != nil {
			return "", err
		}
		if i == each/2 {
			contested = PublicKey{9, byte(w), 0, 2}
			var changed *ChangedKeyError
			if err := known.Add("contested:1", contested); errors.As(err, &changed) {
				contested = changed.Known
			} else if err != nil {
				return "", err
			}
		}
	}
	return contested.String(), nil
}

// TestKnownRemotesLocked: Add waits for the lock, but not for ever.
func TestKnownRemotesLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	key := newKeyPair(t).Public()
	for _, tt := range []struct {
		held time.Duration
		want error
	}{{lockWait / 2, nil}, {2 * lockWait, ErrLocked}} {
		synctest.Test(t, func(t *testing.T) {
			holder, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := filelock.Try(holder); err != nil || !ok {
				t.Fatalf("%v, %v", ok, err)
			}
			var closeErr error
			release := time.AfterFunc(tt.held, func() { closeErr = holder.Close() })
			known := openKnown(t, path)
			start := time.Now()
			addr := fmt.Sprint("held:", tt.held)
			if err := known.Add(addr, key); !errors.Is(err, tt.want) {
				t.Errorf("held for %v: %v", tt.held, err)
			}
			if waited := time.Since(start); waited < min(tt.held, lockWait) ||
				waited > lockWait+2*lockRetry {
				t.Errorf("held for %v: waited %v", tt.held, waited)
			}
			if _, ok := known.lookup(addr); ok != (tt.want == nil) {
				t.Errorf("held for %v: known: %v", tt.held, ok)
			}
			if release.Stop() {
				closeErr = holder.Close()
			}
			synctest.Wait()
			if closeErr != nil {
				t.Error(closeErr)
			}
		})
	}
}

// FuzzKnownRemotes checks that a file that can be read still can after Add, and holds all that it
// held and the new line.
func FuzzKnownRemotes(f *testing.F) {
	a, b := PublicKey{9}.String(), PublicKey{9, 1}.String()
	for _, seed := range []string{
		"", "\n", "# x", "a:1 " + a, "a:1 " + a + "\nb:2 " + b + " comment\r\n#",
		"a:1 " + a + "\na:1 " + b, "a:1", "\xff", "a:1 " + a + "\r",
		"a:1 " + a + "\x00", "a:1\u00a0" + a, "new:1 " + a, "\uFEFFa:1 " + a,
	} {
		f.Add(seed)
	}
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(folder, fmt.Sprintf("known-%d", os.Getpid()))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		known, err := OpenKnownRemotes(path)
		if err != nil {
			var line *LineError
			if !errors.As(err, &line) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		before := known.remotes
		added := PublicKey{9, 9}
		err = known.Add("new:1", added)
		var changed *ChangedKeyError
		if err != nil && !(errors.As(err, &changed) && changed.Known == before["new:1"].key) {
			t.Fatal(err)
		}
		again := openKnown(t, path)
		for addr, remote := range before {
			if err := again.Check(addr, remote.key); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := before["new:1"]; !ok {
			if err := again.Check("new:1", added); err != nil ||
				again.remotes["new:1"].line != known.remotes["new:1"].line {
				t.Fatalf("%v; line %d in memory, %d in the file", err, known.remotes["new:1"].line,
					again.remotes["new:1"].line)
			}
		}
	})
}

// A file that others may write to is neither read nor added to, even if it became so meanwhile.
func TestKnownRemotesOthersMayWrite(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // there are no such permission bits
	}
	path := filepath.Join(t.TempDir(), "known")
	k, err := OpenKnownRemotes(path)
	if err != nil {
		t.Fatal(err)
	}
	key := newKeyPair(t).Public()
	if err := k.Add("a.example:80", key); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := k.Add("b.example:80", key); !errors.Is(err, ErrWritable) {
		t.Errorf("added: %v", err)
	}
	if _, err := OpenKnownRemotes(path); !errors.Is(err, ErrWritable) {
		t.Errorf("opened: %v", err)
	}
}

// The spelling of a host doesn't make another remote of it, which could show another key.
func TestKnownRemotesSpelling(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	first, second := newKeyPair(t).Public(), newKeyPair(t).Public()
	line := "Remote.Example:443/Tunnel " + first.String() + "\n"
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := OpenKnownRemotes(path)
	if err != nil {
		t.Fatal(err)
	}
	for addr, known := range map[string]bool{
		"remote.example:443/Tunnel":  true,
		"REMOTE.EXAMPLE.:443/Tunnel": true,
		"remote.example:443/tunnel":  false, // a server may tell paths apart by case
		"remote.example:80/Tunnel":   false,
		"remote.example:443":         false,
	} {
		if err := k.Check(addr, first); (err == nil) != known {
			t.Errorf("%s: %v", addr, err)
		}
		var changed *ChangedKeyError
		if err := k.Check(addr, second); errors.As(err, &changed) != known {
			t.Errorf("%s with another key: %v", addr, err)
		}
	}
	var changed *ChangedKeyError
	if err := k.Add("REMOTE.example:443/Tunnel", second); !errors.As(err, &changed) {
		t.Errorf("another key is added: %v", err)
	}
	if err := k.Add("REMOTE.example:443/Tunnel", first); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(path); string(got) != line {
		t.Errorf("the file is\n%s", got)
	}
	if err := k.Add("[2001:DB8::1]:443", first); err != nil {
		t.Fatal(err)
	}
	if err := k.Check("[2001:db8::1]:443", second); !errors.As(err, &changed) {
		t.Errorf("an address in lower case: %v", err)
	}
	contradiction := line + "remote.example:443/Tunnel " + second.String() + "\n"
	if err := os.WriteFile(path, []byte(contradiction), 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *LineError
	if _, err := OpenKnownRemotes(path); !errors.As(err, &bad) || bad.Line != 2 {
		t.Errorf("two keys for two spellings: %v", err)
	}
}

// writeFile replaces a file of the test's own.
func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
