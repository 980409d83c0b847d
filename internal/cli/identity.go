package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"culvert/certs"
	"culvert/protocol"

	"github.com/urfave/cli/v2"
)

// configFile returns the path of a file in culvert's folder of the user's configuration.
func configFile(name string) (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &Failure{exitFailed, "no configuration folder", err, "set HOME or XDG_CONFIG_HOME, or name each file by its flag"}
	}
	return filepath.Join(dir, "culvert", name), nil
}

func keyFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "key", EnvVars: env("key"), Category: "identity",
		Usage: "our key pair in `FILE` (default: identity.json in culvert's configuration folder, made at first use)",
	}
}

// loadKey reads the key pair that --key names. Only the default one is made when it is missing.
func loadKey(c *cli.Context) (*certs.KeyPair, error) {
	path := c.String("key")
	if path != "" {
		key, err := certs.ReadKeyPair(path)
		if err != nil {
			return nil, keyFailure(path, err)
		}
		return key, nil
	}
	path, err := configFile("identity.json")
	if err != nil {
		return nil, err
	}
	key, _, err := certs.LoadOrCreateKeyPair(path)
	if err != nil {
		return nil, keyFailure(path, err)
	}
	return key, nil
}

func keyFailure(path string, err error) error {
	f := &Failure{exitFailed, "can't use the key file", err, ""}
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.Hint = "make one: culvert keygen -o " + path
	case errors.Is(err, certs.ErrKeyFileMode):
		f.Hint = "only its owner may read it: chmod 600 " + path
	}
	return f
}

// loadCertificate reads the certificate that a flag names, nil when the flag is not given.
func loadCertificate(c *cli.Context, flag string) (*certs.Certificate, error) {
	path := c.String(flag)
	if path == "" {
		return nil, nil
	}
	cert, err := certs.ReadCertificate(path)
	if err != nil {
		return nil, &Failure{exitFailed, "can't use the certificate of --" + flag, err, ""}
	}
	return cert, nil
}

// checkCertified refuses a certificate of ours that is not for our key. There may be none.
func checkCertified(cert *certs.Certificate, key *certs.KeyPair) error {
	if cert == nil {
		return nil
	}
	if certified, ok := cert.BoxKey(); !ok || !certified.Equal(key.Public()) {
		return &Failure{exitFailed, "can't use the certificate of --cert", fmt.Errorf("it is not for the key %s", key.Public()),
			"have one issued for that key, or name the key it is for with --key FILE"}
	}
	return nil
}

var errWrongPin = errors.New("not the pinned key")

// remoteTrust decides whether a remote is who it should be: the key of --remote-key; without that, a certificate of --ca
// suffices; without both, the file of known remotes.
type remoteTrust struct {
	pin       *certs.PublicKey
	ca        *certs.Certificate
	known     *certs.KnownRemotes // nil when a pin or a CA decides
	name      string              // of the remote in that file
	acceptNew bool
}

func loadRemoteTrust(c *cli.Context, name string, ca *certs.Certificate) (*remoteTrust, error) {
	t := &remoteTrust{name: name, ca: ca, acceptNew: c.Bool("accept-new")}
	if text := c.String("remote-key"); text != "" {
		key, err := certs.ParsePublicKey(text)
		if err != nil {
			return nil, usage("it is 43 characters, as `culvert keygen` and `culvert remote` print it", "bad --remote-key: %v", err)
		}
		t.pin = &key
		return t, nil
	}
	if ca != nil {
		return t, nil
	}
	path := c.String("known-remotes")
	if path == "" {
		var err error
		if path, err = configFile("known_remotes"); err != nil {
			return nil, err
		}
	}
	known, err := certs.OpenKnownRemotes(path)
	if err != nil {
		return nil, &Failure{exitFailed, "can't use the file of known remotes", err, ""}
	}
	t.known = known
	return t, nil
}

// verify is called in each handshake.
func (t *remoteTrust) verify(peer protocol.Peer) error {
	switch {
	case t.pin != nil:
		if !t.pin.Equal(peer.Key) {
			return errWrongPin
		}
		return nil
	case t.ca != nil:
		return nil // the handshake has verified the certificate
	}
	err := t.known.Check(t.name, peer.Key)
	if errors.Is(err, certs.ErrUnknownRemote) && t.acceptNew {
		return t.known.Add(t.name, peer.Key)
	}
	return err
}

// says describes what vouches for the remote.
func (t *remoteTrust) says() string {
	switch {
	case t.pin != nil:
		return "the pinned key"
	case t.ca != nil:
		return fmt.Sprintf("certificate of %q", t.ca.CA())
	}
	return "key known as " + t.name
}

// ask lets the user decide on a remote that is not known. It is true when the user said yes and the key is remembered. It
// asks on the terminal itself, since standard input may be a stream's data; without a terminal, and when ctx is done, the
// answer is no.
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
	fmt.Fprintf(tty, "%s is not known. It shows the key\n  %s\nIs this the key that the remote prints? Connect and remember it (yes/no)? ", remote, key)
	answer, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil || strings.TrimSpace(strings.ToLower(answer)) != "yes" {
		return false, nil
	}
	return true, t.known.Add(t.name, key)
}
