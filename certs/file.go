package certs

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"culvert/internal/secretfile"
)

const (
	secretFileMode = 0o600
	publicFileMode = 0o644
	folderMode     = 0o700
)

// ReadKeyPair reads a key pair's file, {"secretkey":[32 numbers],"publickey":[32 numbers]}, and
// checks that the halves belong together. Errors wrap ErrKeyFileMode, ErrMalformedKey or the
// system's error.
func ReadKeyPair(path string) (*KeyPair, error) {
	top, err := readSecretFile(path)
	if err != nil {
		return nil, err
	}
	var secret [32]byte
	var public PublicKey
	if !byteArray(secret[:], top.get("secretkey")) || !byteArray(public[:], top.get("publickey")) {
		return nil, fmt.Errorf("read %s: %w: want secretkey and publickey of 32 bytes", path,
			ErrMalformedKey)
	}
	kp, err := NewKeyPair(secret)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !kp.public.Equal(public) {
		return nil, fmt.Errorf("read %s: %w: publickey does not belong to secretkey", path,
			ErrMalformedKey)
	}
	return kp, nil
}

// WriteFile writes the file that ReadKeyPair reads. It never replaces a file: an error wraps
// fs.ErrExist when there is one. The file is private to its owner, as are folders that it creates,
// and appears complete or not at all.
func (k *KeyPair) WriteFile(path string) error {
	b := append([]byte{}, `{"secretkey":`...)
	b = AppendByteArray(b, k.Secret()[:])
	b = append(b, `,"publickey":`...)
	b = AppendByteArray(b, k.public[:])
	return writeNew(path, append(b, '}'), secretFileMode)
}

// LoadOrCreateKeyPair reads the key pair at path, or creates one if there is no file. Of concurrent
// calls, in one process or several, one creates the pair and all return it.
func LoadOrCreateKeyPair(path string) (kp *KeyPair, created bool, err error) {
	kp, err = ReadKeyPair(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return kp, false, err
	}
	kp, err = GenerateKeyPair(rand.Reader)
	if err != nil {
		return nil, false, err
	}
	err = kp.WriteFile(path)
	if errors.Is(err, fs.ErrExist) {
		kp, err = ReadKeyPair(path)
		return kp, false, err
	}
	if err != nil {
		return nil, false, err
	}
	return kp, true, nil
}

// ReadCA reads a CA's file, {"cert":{…},"secretkey":[64 numbers]}, and checks that the key is the
// certificate's. Whether the certificate is still valid is left to Issue. Errors wrap
// ErrKeyFileMode, ErrMalformedKey, ErrMalformedCertificate or the system's error.
func ReadCA(path string) (*CA, error) {
	top, err := readSecretFile(path)
	if err != nil {
		return nil, err
	}
	secret := make(ed25519.PrivateKey, ed25519.PrivateKeySize)
	if !byteArray(secret, top.get("secretkey")) {
		return nil, fmt.Errorf("read %s: %w: want a secretkey of 64 bytes", path,
			ErrMalformedKey)
	}
	cert, err := certificateFrom(top.get("cert"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	derived := ed25519.NewKeyFromSeed(secret[:ed25519.SeedSize])
	if cert.certType != TypeSelf || subtle.ConstantTimeCompare(derived, secret) != 1 ||
		subtle.ConstantTimeCompare(derived[ed25519.SeedSize:], cert.publicKey[:]) != 1 {
		return nil, fmt.Errorf("read %s: %w: secretkey does not belong to the certificate", path,
			ErrMalformedKey)
	}
	return &CA{cert: cert, secret: func() ed25519.PrivateKey { return secret }}, nil
}

// WriteFile writes the file that ReadCA reads, as KeyPair.WriteFile does.
func (ca *CA) WriteFile(path string) error { return writeNew(path, ca.json(), secretFileMode) }

func (ca *CA) json() []byte {
	b := append([]byte{}, `{"cert":`...)
	b = append(b, ca.cert.JSON()...)
	b = append(b, `,"secretkey":`...)
	b = AppendByteArray(b, ca.secret())
	return append(b, '}')
}

// WriteFiles is WriteFile for the CA and its certificate: it writes both files, or neither. An
// *fs.PathError has the path that failed.
func (ca *CA) WriteFiles(path, certPath string) error {
	secret, err := stage(path, ca.json(), secretFileMode)
	if err != nil {
		return err
	}
	defer secret.drop()
	public, err := stage(certPath, ca.cert.JSON(), publicFileMode)
	if err != nil {
		return err
	}
	defer public.drop()
	if err := secret.publish(); err != nil {
		return err
	}
	if err := public.publish(); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// ReadCertificate reads a certificate's file. Errors are ParseCertificate's, or the system's.
func ReadCertificate(path string) (*Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readCertificate(f)
}

// ReadTrustedCertificate is ReadCertificate for a CA to trust. Errors also wrap ErrWritable or
// ErrOwner.
func ReadTrustedCertificate(path string) (*Certificate, error) {
	f, err := secretfile.OpenTrusted(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readCertificate(f)
}

func readCertificate(f *os.File) (*Certificate, error) {
	b, err := io.ReadAll(io.LimitReader(f, MaxCertificateSize+1))
	if err != nil {
		return nil, err
	}
	c, err := ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return c, nil
}

// WriteFile writes the file that ReadCertificate reads, readable by everyone. It never replaces a
// file.
func (c *Certificate) WriteFile(path string) error {
	return writeNew(path, c.JSON(), publicFileMode)
}

// readSecretFile parses the object in a private file. Its errors quote nothing of the content.
func readSecretFile(path string) (*object, error) {
	f, err := secretfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyFileSize {
		return nil, fmt.Errorf("read %s: %w: %w: more than %d bytes", path, ErrMalformedKey,
			ErrTooLarge, maxKeyFileSize)
	}
	v, err := parseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", path, ErrMalformedKey, err)
	}
	top, ok := v.(*object)
	if !ok {
		return nil, fmt.Errorf("read %s: %w: not an object", path, ErrMalformedKey)
	}
	return top, nil
}

// syncFolder makes a new name in a folder survive a crash, where the system supports that: Windows
// has no such call, and some file systems answer EINVAL (fsync(2)).
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
