package certs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestAuthorizeAtOnce adds and removes keys from many goroutines, as processes do: no line is lost,
// and a reader never sees a part of the file.
func TestAuthorizeAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder", "authorized_keys")
	const writers, each = 8, 4
	key := func(w, i int) PublicKey { return PublicKey{9, byte(w), byte(i), 1} }
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				entry := AuthorizedKey{Key: key(w, i), Comment: fmt.Sprint("name ", w, " ", i)}
				if added, err := Authorize(path, entry); !added || err != nil {
					t.Errorf("%d %d: %v, %v", w, i, added, err)
				}
				b, err := os.ReadFile(path)
				keys, parseErr := ParseAuthorizedKeys(strings.NewReader(string(b)))
				if err != nil || parseErr != nil || keys.Len() == 0 {
					t.Errorf("read %q: %v, %v", b, err, parseErr)
				}
			}
			if err := Deauthorize(path, key(w, 0)); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseAuthorizedKeys(strings.NewReader(string(b)))
	if err != nil || keys.Len() != writers*(each-1) {
		t.Errorf("%v:\n%s", err, b)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

func TestAuthorizeKeeps(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "authorized_keys")
	if err := os.WriteFile(path, []byte("# by hand"), 0o640); err != nil {
		t.Fatal(err)
	}
	a, b := PublicKey{9, 1}, PublicKey{9, 2}
	if _, err := Authorize(path, AuthorizedKey{Key: a, Allow: []string{"a:1,2", "b"}}); err != nil {
		t.Fatal(err)
	}
	if added, err := Authorize(path, AuthorizedKey{Key: a}); added || err != nil {
		t.Errorf("again: %v, %v", added, err)
	}
	_, err := Authorize(path, AuthorizedKey{Key: a, Comment: "other"})
	if listed, ok := errors.AsType[*ListedError](err); !ok || listed.Line != 2 {
		t.Errorf("another name: %v", err)
	}
	if err := Deauthorize(path, b); !errors.Is(err, ErrNotListed) {
		t.Errorf("not listed: %v", err)
	}
	text, err := os.ReadFile(path)
	if want := "# by hand\n" + a.String() + " allow=a:1,2,b\n"; err != nil || string(text) != want {
		t.Errorf("got %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, bad := range []AuthorizedKey{
		{Key: a, Comment: "a=b"}, {Key: a, Comment: "a\nb"}, {Key: a, Comment: "\u202ea"},
		{Key: a, Comment: " a"}, {Key: a, Comment: "#a"}, {Key: a, Allow: []string{"a b"}},
	} {
		if _, err := Authorize(path, bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	for _, name := range []string{"laptop", "my phone, 2", "B\u00fcro"} {
		if err := CheckKeyName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
