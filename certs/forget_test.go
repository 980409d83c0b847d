package certs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// TestForget shows that all lines of a remote go, however it is spelled, and that the others,
// comments and the mode stay.
func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_remotes")
	a, b := newKeyPair(t).Public(), newKeyPair(t).Public()
	content := "# by hand\nA.com.:443 " + a.String() + "\n\nb.com:80/T " + b.String() + " note\n" +
		"a.com:443 " + a.String()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	known := openKnown(t, path)
	want := []KnownRemote{{"a.com:443", a, 2}, {"b.com:80/T", b, 4}}
	if got := slices.Collect(known.All()); !slices.Equal(got, want) {
		t.Errorf("all are %v, want %v", got, want)
	}
	for _, other := range []string{"c.com:443", "b.com:80/t", "#", ""} {
		if err := known.Forget(other); !errors.Is(err, ErrNotListed) {
			t.Errorf("forget %q: %v", other, err)
		}
	}
	if err := known.Forget("a.COM:443"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if want := "# by hand\n\nb.com:80/T " + b.String() + " note\n"; err != nil || string(got) != want {
		t.Errorf("the file holds %q, %v, want %q", got, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	if err := known.Check("a.com:443", a); !errors.Is(err, ErrUnknownRemote) {
		t.Errorf("after it is forgotten: %v", err)
	}
	if err := errors.Join(known.Check("b.com:80/T", b), known.Add("a.com:443", b)); err != nil {
		t.Error(err)
	}
}

// TestForgetWhileAdding shows that what others add is not lost when the file is replaced.
func TestForgetWhileAdding(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "known_remotes")
	key := newKeyPair(t).Public()
	if err := openKnown(t, path).Add("gone.com:1", key); err != nil {
		t.Fatal(err)
	}
	names := []string{"a.com:1", "b.com:1", "c.com:1", "d.com:1"}
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			if err := openKnown(t, path).Add(name, key); err != nil {
				t.Error(err)
			}
		})
	}
	all.Go(func() {
		if err := openKnown(t, path).Forget("gone.com:1"); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
	known := openKnown(t, path)
	for _, name := range names {
		if err := known.Check(name, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := known.Check("gone.com:1", key); !errors.Is(err, ErrUnknownRemote) {
		t.Errorf("gone.com: %v", err)
	}
}
