package cli

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
)

// TestOwnCertificate: a certificate that was replaced is read again, and a bad one leaves the last.
// One that has expired is told.
func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca, err := certs.NewCA(rand.Reader, "test", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cert")
	issue := func(key certs.PublicKey, lasts time.Duration) *certs.Certificate {
		cert, err := ca.Issue(rand.Reader, time.Now(),
			certs.Request{PublicKey: key, Expires: time.Now().Add(lasts)})
		_ = os.Remove(path) // of the one before, if there was one
		if err == nil {
			err = cert.WriteFile(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	own := &ownCertificate{path: path, key: key, end: certs.UseClient}
	for range 2 {
		want := issue(key.Public(), time.Minute)
		if got, err := own.next(); err != nil || got.GID() != want.GID() {
			t.Errorf("%v, %v", got, err)
		}
	}
	last := own.last
	issue(certs.PublicKey{9}, time.Minute)
	if got, err := own.next(); err == nil || got != last {
		t.Errorf("that of another key: %v", err)
	}
	short := issue(key.Public(), 50*time.Millisecond)
	if err := checkUnexpired(last); err != nil {
		t.Error(err)
	}
	testnet.Poll(t, time.Minute, "the certificate has expired", func() bool {
		return errors.Is(checkUnexpired(short), errExpired)
	})
}
