package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/secretfile"
	"culvert/internal/shellquote"
	"culvert/internal/systemd"

	"github.com/rs/zerolog"
)

// configFile returns the path of a file in culvert's folder of the user's configuration. A service
// has its state folder instead, if systemd gives it one: it may have no home.
func configFile(name string) (string, error) {
	if dir := systemd.StateFolder(); dir != "" {
		return filepath.Join(dir, name), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", exit.Fail(exit.Failed, "no configuration folder", err,
			"set HOME or XDG_CONFIG_HOME, or name each file by its flag")
	}
	return filepath.Join(dir, "culvert", name), nil
}

// identityOptions name what a node proves its identity with.
type identityOptions struct {
	key  string // file; "" for the default one
	cert string // file; "" for none

	made string // the file of the key pair if load has made it, or ""
}

func (o *identityOptions) defineKey(s *flags.Set) {
	s.Group("identity")
	s.String(&o.key, "key", "", "read our key pair from `FILE` "+
		"(default: identity.json in culvert's configuration folder, created at first use)")
}

// defaultKey returns the file of the key pair that a node has unless --key names one.
func defaultKey() (string, error) { return configFile("identity.json") }

// require names the default key pair, if no other is named, so that load doesn't create it.
func (o *identityOptions) require() (err error) {
	if o.key == "" {
		o.key, err = defaultKey()
	}
	return err
}

// load reads the key pair and the certificate for this end, which is nil if there is none. It
// creates the default key pair if that is missing, but no other.
func (o *identityOptions) load(end certs.Use) (*certs.KeyPair, *certs.Certificate, error) {
	cert, err := loadCertificate("cert", o.cert)
	if err != nil {
		return nil, nil, err
	}
	key, made, err := loadKey(o.key)
	if err != nil {
		return nil, nil, err
	}
	o.made = made
	return key, cert, checkCertified(cert, key, end)
}

// logMade logs that load has made the key pair of a service, which nobody admits yet. Whoever
// starts a node by hand sees the key without that: a remote logs it, and a local that isn't
// admitted names it.
func (o *identityOptions) logMade(log zerolog.Logger, key certs.PublicKey) {
	if o.made != "" && systemd.StateFolder() != "" {
		log.Info().Str("file", o.made).Stringer("key", key).Msg("created a key pair")
	}
}

// loadKey reads a key pair. If it has created the default one, made is the file.
func loadKey(path string) (key *certs.KeyPair, made string, err error) {
	created := false
	if path != "" {
		key, err = certs.ReadKeyPair(path)
	} else if path, err = defaultKey(); err != nil {
		return nil, "", err
	} else {
		key, created, err = certs.LoadOrCreateKeyPair(path)
	}
	if err != nil {
		return nil, "", keyFailure(path, err)
	}
	if created {
		made = path
	}
	return key, made, nil
}

func keyFailure(path string, err error) error {
	hint := secretfile.Hint(err, path)
	if errors.Is(err, os.ErrNotExist) {
		hint = "make one: culvert keygen -o " + shellquote.Quote(path)
	}
	return exit.Fail(exit.Failed, "can't use the key file", err, hint)
}

// loadCertificate reads the certificate that a flag names, nil if it names none. It refuses a file
// that others than its owner may write to: the flag may name the CA to trust.
func loadCertificate(flag, path string) (*certs.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	cert, err := certs.ReadTrustedCertificate(path)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the certificate of --"+flag, err,
			secretfile.Hint(err, path))
	}
	return cert, nil
}

// loadCA reads the certificate of a CA, which has to be one that is valid now; nil if path is "".
func loadCA(flag, path string) (*certs.Certificate, error) {
	ca, err := loadCertificate(flag, path)
	if ca == nil {
		return nil, err
	}
	if ca.Type() != certs.TypeSelf {
		err = errors.New("it is a certificate that a CA has issued, not the CA's own")
	} else if err = ca.Verify(certs.VerifyOptions{}); err != nil {
		err = plainRefusal(err)
	}
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the certificate of --"+flag,
			fmt.Errorf("%s: %w", path, err), "it is the file that `culvert cert ca --cert-out` wrote")
	}
	return ca, nil
}

// checkCertified refuses a certificate, which may be nil, that is not for our key or not for our
// end.
func checkCertified(cert *certs.Certificate, key *certs.KeyPair, end certs.Use) error {
	if cert == nil {
		return nil
	}
	if certified, ok := cert.BoxKey(); !ok || !certified.Equal(key.Public()) {
		return exit.Fail(exit.Failed, "can't use the certificate of --cert",
			fmt.Errorf("it is not for the key %s", key.Public()),
			"have one issued for that key, or name the certified key with --key FILE")
	}
	if cert.VerifyUse(end) != nil {
		return exit.Fail(exit.Failed, "can't use the certificate of --cert",
			fmt.Errorf("it is for a %s only", cert.Use()),
			fmt.Sprintf("have one issued with --use %s, or without --use", end))
	}
	return nil
}

// ownCertificate is the certificate of --cert, which a local reads again: the next one is issued
// before the last one expires.
type ownCertificate struct {
	path string
	key  *certs.KeyPair
	end  certs.Use

	mu   sync.Mutex // guards last
	last *certs.Certificate
}

// next returns the certificate that the file has now, or with an error the last one.
func (o *ownCertificate) next() (*certs.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	cert, err := loadCertificate("cert", o.path)
	if err == nil {
		err = checkCertified(cert, o.key, o.end)
	}
	if err == nil {
		o.last = cert
	}
	return o.last, err
}

// errExpired means that a certificate is no longer valid.
var errExpired = errors.New("it has expired")

// checkUnexpired refuses a certificate, which may be nil, that has expired.
func checkUnexpired(cert *certs.Certificate) error {
	if cert == nil || time.Now().Before(cert.Expires()) {
		return nil
	}
	return exit.Fail(exit.Failed, "can't use the certificate of --cert",
		fmt.Errorf("%w, at %s", errExpired, cert.Expires().UTC().Format(time.RFC3339)),
		"have another one issued")
}
