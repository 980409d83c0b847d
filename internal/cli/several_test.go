package cli

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/protocol"
	"culvert/tunnel"
)

func newPublicKey(t *testing.T) certs.PublicKey {
	t.Helper()
	pair, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Public()
}

// loadURLs returns the connection to remotes, with a file of known remotes and a key made for it.
func loadURLs(t *testing.T, known string, urls ...string) ([]remote, error) {
	t.Helper()
	o := connectOptions{trust: trustOptions{knownRemotes: known}}
	for _, url := range urls {
		r, err := parseRemote(url)
		if err != nil {
			t.Fatal(err)
		}
		o.remotes = append(o.remotes, r)
	}
	return o.loadRemotes(nil)
}

// TestSharedKey: a local with several remotes refuses two that have one key, whether pinned or
// known, before it connects, and remembers no key for a second remote.
func TestSharedKey(t *testing.T) {
	t.Parallel()
	a, b := newPublicKey(t), newPublicKey(t)
	known := filepath.Join(t.TempDir(), "known_remotes")
	file, err := certs.OpenKnownRemotes(known)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(file.Add("one:80", a), file.Add("two:80", a), file.Add("three:80", b))
	if err != nil {
		t.Fatal(err)
	}
	for _, urls := range []string{
		"ws://x/#" + a.String() + " ws://y/#" + a.String(),
		"ws://x/#" + b.String() + "," + a.String() + " ws://z/ wss://y/p#" + a.String(),
		"ws://one/ ws://two/",
		"ws://three/ ws://x/#" + b.String(),
		"ws://x/#" + b.String() + " ws://y/ ws://three/",
	} {
		_, err := loadURLs(t, known, strings.Fields(urls)...)
		failure, ok := errors.AsType[*exit.Failure](err)
		if !ok || failure.Code != exit.Usage || failure.What != "two remotes have one key" {
			t.Errorf("%s: %v", urls, err)
		}
	}
	remotes, err := loadURLs(t, known, "ws://one/", "ws://three/", "ws://four/", "ws://five/#"+
		newPublicKey(t).String())
	if err != nil {
		t.Fatal(err)
	}
	four := remotes[2].trust
	if !four.unknown() || remotes[1].trust.unknown() || remotes[3].trust.unknown() {
		t.Error("wrong remotes are unknown")
	}
	err = four.remember(b)
	if failure, ok := errors.AsType[*exit.Failure](err); !ok || failure.Code != exit.WrongRemote {
		t.Errorf("remembered the key of another remote: %v", err)
	}
	if err := four.remember(newPublicKey(t)); err != nil || four.unknown() {
		t.Errorf("a key of its own is not remembered: %v", err)
	}
}

// TestRemoteConcerned: errors and questions are about the remote that failed.
func TestRemoteConcerned(t *testing.T) {
	t.Parallel()
	key := newPublicKey(t)
	remotes, err := loadURLs(t, filepath.Join(t.TempDir(), "known"), "ws://one/", "ws://two/#"+
		key.String(), "ws://three/")
	if err != nil {
		t.Fatal(err)
	}
	c := &connection{remote: remotes[0], remotes: remotes}
	for i, r := range remotes {
		err := &tunnel.ConnectError{Step: tunnel.StepTCP, Err: errors.New("x"), Remote: r.address}
		if got := c.about(err); got.trust != remotes[i].trust {
			t.Errorf("%v: about %v", r.address, got.address)
		}
		if text := connectFailure(err, c).Error(); !strings.Contains(text, r.address.String()) {
			t.Errorf("%v: %s", r.address, text)
		}
	}
	if got := c.about(errors.New("x")); got != c {
		t.Errorf("an error about no remote is about %v", got.address)
	}
}

// TestForgottenKey: a local that runs doesn't accept a key that another process has forgotten, and
// goes on with what it knows while the file can't be read.
func TestForgottenKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_remotes")
	key := newPublicKey(t)
	other, err := certs.OpenKnownRemotes(path)
	if err == nil {
		err = other.Add("exit.example:80", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	remotes, err := loadURLs(t, path, "ws://exit.example/")
	if err != nil {
		t.Fatal(err)
	}
	verify := remotes[0].trust.verify
	if err := verify(protocol.Peer{Key: key}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := verify(protocol.Peer{Key: key}); err != nil {
		t.Errorf("without the file: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
		t.Fatal(err)
	}
	if err := other.Forget("exit.example:80"); err != nil {
		t.Fatal(err)
	}
	if err := verify(protocol.Peer{Key: key}); !errors.Is(err, certs.ErrUnknownRemote) {
		t.Errorf("forgotten: %v", err)
	}
}

// The service manager is told which remote is connected to only where there is no other.
func TestReadyStatus(t *testing.T) {
	for want, urls := range map[string][]string{
		"connected to wss://a.example/": {"wss://a.example/"},
		"serving":                       {"wss://a.example/", "wss://b.example/"},
	} {
		remotes, err := loadURLs(t, filepath.Join(t.TempDir(), "known"), urls...)
		if err != nil {
			t.Fatal(err)
		}
		c := &connection{remotes: remotes, remote: remotes[0]}
		if got := c.readyStatus(); got != want {
			t.Errorf("%q: %q, want %q", urls, got, want)
		}
	}
}
