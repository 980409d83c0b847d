package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/secretfile"
	"culvert/protocol"
	"culvert/tunnel"
)

// trustOptions decide which remotes are accepted.
type trustOptions struct {
	remoteKey    string
	acceptNew    bool
	knownRemotes string // file; "" for the default one
	ca           string // file; "" to speak version 1 of the handshake

	requireForwardSecrecy bool
}

func (o *trustOptions) defineKeys(s *flags.Set) {
	s.Group("identity")
	s.String(&o.remoteKey, "remote-key", "",
		"accept only the remote with the public `KEY`").Common()
	s.Bool(&o.acceptNew, "accept-new",
		"remember the key of an unknown remote without asking").Common()
	o.defineKnown(s)
	s.String(&o.ca, "ca", "", "use version 2 of the handshake, "+
		"and require a certificate of the CA in `FILE` from the remote")
}

func (o *trustOptions) defineKnown(s *flags.Set) {
	s.String(&o.knownRemotes, "known-remotes", "", "keep known remotes in `FILE` "+
		"(default: known_remotes in culvert's configuration folder)")
}

func (o *trustOptions) defineSecrecy(s *flags.Set) {
	s.Group("identity")
	s.Bool(&o.requireForwardSecrecy, "require-forward-secrecy",
		"refuse a remote that only supports the specified handshake, "+
			"with which a stolen key decrypts recorded traffic")
}

// badKey returns the error of a flag whose value is no public key.
func badKey(flag, value string, err error) error {
	return &flags.ValueError{
		Flag: flag, Value: value, Why: err.Error(),
		Form: "it is 43 characters, as `culvert keygen` and `culvert remote` print it",
	}
}

var errWrongPin = errors.New("not the pinned key")

// remoteTrust decides whether a remote is who it should be: the key of --remote-key; without it, a
// certificate of --ca is enough; without both, the file of known remotes decides.
type remoteTrust struct {
	pins      []certs.PublicKey // one of these; nil without a pin
	pinnedIn  string            // where they come from, for people
	ca        *certs.Certificate
	known     *certs.KnownRemotes // nil if a pin or a CA decides
	name      string              // of the remote in that file
	acceptNew bool
	others    []*remoteTrust // in the other remotes of a local, which have keys of their own

	proved atomic.Pointer[certs.PublicKey] // the pinned key that the remote has
}

// load returns the trust in a remote. The certificate of --ca may be nil.
func (o *trustOptions) load(r remoteURL, ca *certs.Certificate) (*remoteTrust, error) {
	t := &remoteTrust{name: r.address.Name(), ca: ca, acceptNew: o.acceptNew}
	if o.remoteKey != "" || r.keys != nil {
		return t, o.pin(t, r.keys)
	}
	if ca != nil {
		return t, nil
	}
	var err error
	t.known, err = o.openKnown()
	return t, err
}

// pin sets the keys of --remote-key and the URL. If both have keys, they must agree.
func (o *trustOptions) pin(t *remoteTrust, urlKeys []certs.PublicKey) error {
	t.pins, t.pinnedIn = urlKeys, "the URL"
	if o.remoteKey == "" {
		return nil
	}
	key, err := certs.ParsePublicKey(o.remoteKey)
	if err != nil {
		return badKey("remote-key", o.remoteKey, err)
	}
	if urlKeys != nil && !slices.ContainsFunc(urlKeys, key.Equal) {
		return exit.Usagef("leave one of them out", "--remote-key is another key than the URL's")
	}
	t.pins, t.pinnedIn = []certs.PublicKey{key}, "--remote-key"
	return nil
}

// remoteURL is the URL of a remote, with the keys that it pins, nil if it has none.
type remoteURL struct {
	address tunnel.Address
	keys    []certs.PublicKey
}

// parseRemote parses the URL of a remote with the keys that it pins, which follow # and are
// separated by commas. They are not part of the address, and so are sent nowhere.
func parseRemote(text string) (remoteURL, error) {
	location, list, pinned := strings.Cut(text, "#")
	address, err := tunnel.ParseAddress(location)
	remote := remoteURL{address: address}
	if err != nil || !pinned {
		return remote, err
	}
	for text := range strings.SplitSeq(list, ",") {
		key, err := certs.ParsePublicKey(text)
		if err != nil {
			return remote, fmt.Errorf("bad key after the URL's #: %w", err)
		}
		remote.keys = append(remote.keys, key)
	}
	return remote, nil
}

// openKnown reads the file of known remotes.
func (o *trustOptions) openKnown() (*certs.KnownRemotes, error) {
	path := o.knownRemotes
	if path == "" {
		var err error
		if path, err = configFile("known_remotes"); err != nil {
			return nil, err
		}
	}
	known, err := certs.OpenKnownRemotes(path)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the file of known remotes", err,
			secretfile.Hint(err, path))
	}
	return known, nil
}

// verify is called in each handshake.
func (t *remoteTrust) verify(peer protocol.Peer) error {
	switch {
	case t.pins != nil:
		if !slices.ContainsFunc(t.pins, peer.Key.Equal) {
			return errWrongPin
		}
		t.proved.Store(&peer.Key)
		return nil
	case t.ca != nil:
		return nil // the handshake has verified the certificate
	}
	_ = t.known.Reload() // somebody may have changed the file; without it, what was known goes on
	err := t.known.Check(t.name, peer.Key)
	if errors.Is(err, certs.ErrUnknownRemote) && t.acceptNew {
		err = t.remember(peer.Key)
		if _, changed := errors.AsType[*certs.ChangedKeyError](err); err != nil && !changed {
			return &protocol.OwnFault{Err: err}
		}
	}
	return err
}

// remember adds the remote's key to the file of known remotes, unless another remote has it.
func (t *remoteTrust) remember(key certs.PublicKey) error {
	for _, other := range t.others {
		if other.accepts(key) {
			return sharedKey(exit.WrongRemote, key, other.name, t.name)
		}
	}
	err := t.known.Add(t.name, key)
	if _, changed := errors.AsType[*certs.ChangedKeyError](err); err == nil || changed {
		return err
	}
	return exit.Fail(exit.Failed, "can't remember the remote", err,
		"name another file with --known-remotes FILE, or give --remote-key "+key.String())
}

// basis describes what vouches for the remote.
func (t *remoteTrust) basis() string {
	switch {
	case t.pins != nil:
		return "the pinned key"
	case t.ca != nil:
		return fmt.Sprintf("certificate of %q", t.ca.CA())
	}
	return "key known as " + t.name
}

// rememberPin adds the pinned key that a remote has just proved to have to the file of known
// remotes. It returns a remark for people, or "" if the key was known.
func (o *trustOptions) rememberPin(t *remoteTrust) string {
	known, err := o.openKnown()
	if err == nil {
		key := *t.proved.Load()
		if known.Check(t.name, key) == nil {
			return ""
		}
		err = known.Add(t.name, key)
	}
	changed, another := errors.AsType[*certs.ChangedKeyError](err)
	switch {
	case another:
		return fmt.Sprintf("; line %d of %s has another", changed.Line, changed.Path)
	case err != nil:
		return ", which can't be remembered: " + err.Error()
	}
	return ", now remembered"
}

// askTries is how often a question is asked until the answer is one.
const askTries = 3

// ask lets the user decide on an unknown remote. It reports whether the user accepted the key,
// which is then remembered. It asks on the terminal itself, since standard input may be a stream's
// data; without a terminal, as on Windows, and when ctx is done, the answer is no. A key for an
// answer is yes if it is the remote's; another is an error.
func (t *remoteTrust) ask(ctx context.Context, remote string, key certs.PublicKey) (bool, error) {
	if t.known == nil {
		return false, nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false, nil
	}
	defer tty.Close()
	stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Now()) })
	defer stop()
	fmt.Fprintf(tty, "%s is not known. It shows the key\n  %s\n"+
		"Is this the key that the remote prints? "+
		"To connect and remember it, type yes or paste that key (yes/no/KEY)? ", remote, key)
	lines := bufio.NewReader(tty)
	for range askTries {
		text, err := readLine(ctx, lines)
		if err != nil {
			return false, nil
		}
		answer := strings.TrimPrefix(strings.TrimSpace(text), "key=") // as a log line has it
		pasted, notKey := certs.ParsePublicKey(answer)
		switch {
		case strings.EqualFold(answer, "yes"), notKey == nil && pasted.Equal(key):
			return true, t.remember(key)
		case notKey == nil:
			return false, exit.Fail(exit.WrongRemote, "wrong remote",
				fmt.Errorf("%s shows the key %s, not the one that was pasted", remote, key),
				compareKeys)
		case answer == "", strings.EqualFold(answer, "no"):
			return false, nil
		}
		fmt.Fprint(tty, "Please type yes or no in full, or paste the key that the remote prints: ")
	}
	return false, nil
}

// readLine reads a line until ctx is done. Where the system can't end a read of the terminal, as on
// macOS, the read ends with the process.
func readLine(ctx context.Context, from *bufio.Reader) (line string, err error) {
	done := make(chan struct{})
	var text string
	var failure error
	go func() {
		defer close(done)
		text, failure = from.ReadString('\n')
	}()
	select {
	case <-done:
		return text, failure
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
