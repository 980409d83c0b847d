package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestKeyPairFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folders", "identity.json")
	kp := newKeyPair(t)
	if err := kp.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	wantModes(t, path, 0o600)
	secret, public := kp.Secret(), kp.Public()
	want := `{"secretkey":` + string(AppendByteArray(nil, secret[:])) + `,"publickey":` +
		string(AppendByteArray(nil, public[:])) + `}`
	if got := string(readFile(t, path)); got != want {
		t.Error("the file's text is not the reference's")
	}
	back, err := ReadKeyPair(path)
	if err != nil || back.Public() != kp.Public() || *back.Secret() != *kp.Secret() {
		t.Errorf("read back %v, %v", back, err)
	}
	if err := newKeyPair(t).WriteFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a file: %v", err)
	}
	if got := string(readFile(t, path)); got != want {
		t.Error("a file was replaced")
	}
	wantFiles(t, filepath.Dir(path), "identity.json")
}

func TestCAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "ca.json")
	ca := newCA(t, "é\"\u2028")
	if err := ca.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	wantModes(t, path, 0o600)
	back, err := ReadCA(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := issue(t, back, nil).Verify(VerifyOptions{CA: ca.Certificate(),
		Now: testNow}); err != nil {
		t.Error(err)
	}
	if err := ca.WriteFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a file: %v", err)
	}
	certPath := filepath.Join(filepath.Dir(path), "cert.json")
	if err := ca.Certificate().WriteFile(certPath); err != nil {
		t.Fatal(err)
	}
	c, err := ReadCertificate(certPath)
	if err != nil || !bytes.Equal(c.JSON(), ca.Certificate().JSON()) {
		t.Errorf("read back %v, %v", c, err)
	}
	if _, err := ReadCertificate(path); !errors.Is(err, ErrMalformedCertificate) {
		t.Errorf("a CA's key file for a certificate: %v", err)
	}
	if _, err := ReadCA(certPath); !errors.Is(err, ErrKeyFileMode) {
		t.Errorf("a certificate for a CA's key file: %v", err)
	}
	wantFiles(t, filepath.Dir(path), "ca.json", "cert.json")
}

// wantModes checks the mode of a file and that the folder was made for its owner alone.
func wantModes(t testing.TB, path string, want fs.FileMode) {
	t.Helper()
	for p, mode := range map[string]fs.FileMode{
		path: want, filepath.Dir(path): fs.ModeDir | 0o700,
	} {
		if info, err := os.Stat(p); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", p, info, err, mode)
		}
	}
}

// wantFiles checks that the folder contains exactly names.
func wantFiles(t testing.TB, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

// A CA's two files are both written, or neither, and a file that is there is left alone.
func TestWriteFilesOfCA(t *testing.T) {
	folder := t.TempDir()
	path, certPath := filepath.Join(folder, "ca"), filepath.Join(folder, "cert")
	for _, taken := range []string{path, certPath} {
		if err := os.WriteFile(taken, []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := newCA(t, "x").WriteFiles(path, certPath)
		failed, ok := errors.AsType[*fs.PathError](err)
		if !errors.Is(err, fs.ErrExist) || !ok || failed.Path != taken {
			t.Errorf("%s exists: %v", taken, err)
		}
		wantFiles(t, folder, filepath.Base(taken))
		if err := os.Remove(taken); err != nil {
			t.Fatal(err)
		}
	}
	// The second name is taken between the check and the writing.
	if err := newCA(t, "x").WriteFiles(path, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("one name for both: %v", err)
	}
	wantFiles(t, folder)
	ca := newCA(t, "x")
	if err := ca.WriteFiles(path, certPath); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, folder, "ca", "cert")
	got, err := ReadCA(path)
	cert, certErr := ReadCertificate(certPath)
	if err != nil || certErr != nil || !bytes.Equal(got.Certificate().JSON(), cert.JSON()) {
		t.Errorf("read again: %v, %v", err, certErr)
	}
}

func TestKeyFileModes(t *testing.T) {
	folder := t.TempDir()
	path, caPath := filepath.Join(folder, "k"), filepath.Join(folder, "ca")
	if err := errors.Join(newKeyPair(t).WriteFile(path),
		newCA(t, "x").WriteFile(caPath)); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o620: false,
		0o601: false,
	} {
		if err := errors.Join(os.Chmod(path, mode), os.Chmod(caPath, mode)); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKeyPair(path)
		if ok != (err == nil) || !ok && !errors.Is(err, ErrKeyFileMode) {
			t.Errorf("a key with mode %o: %v", mode, err)
		}
		_, err = ReadCA(caPath)
		if ok != (err == nil) || !ok && !errors.Is(err, ErrKeyFileMode) {
			t.Errorf("a CA with mode %o: %v", mode, err)
		}
	}
}

// TestMalformedKeyFiles: each is refused, and the error reveals nothing of the file's content.
func TestMalformedKeyFiles(t *testing.T) {
	kp, ca := newKeyPair(t), newCA(t, "secret name")
	secret, public := kp.Secret()[:], kp.Public()
	numbers := string(AppendByteArray(nil, secret))
	good := `{"secretkey":` + numbers + `,"publickey":` + string(AppendByteArray(nil, public[:])) +
		`}`
	key := ca.Certificate().publicKey
	caSecret := string(AppendByteArray(nil, ca.secret()))
	goodCA := `{"cert":` + string(ca.Certificate().JSON()) + `,"secretkey":` + caSecret + `}`
	other := newCA(t, "other")
	for name, content := range map[string]string{
		"empty":           "",
		"PEM":             "-----BEGIN PRIVATE KEY-----\n" + keyText.EncodeToString(secret),
		"text of the key": keyText.EncodeToString(secret),
		"quoted":          `"` + keyText.EncodeToString(secret) + `"`,
		"array":           numbers,
		"cut":             good[:len(good)-1],
		"cut in the key":  good[:40],
		"CA cut":          goodCA[:len(goodCA)-40],
		"31 bytes": strings.Replace(good, numbers,
			numbers[:strings.LastIndex(numbers, ",")]+"]", 1),
		"text for a byte": strings.Replace(good, "[", `["x`+keyText.EncodeToString(secret)+`",`,
			1),
		"no public key": `{"secretkey":` + numbers + `}`,
		"wrong public key": strings.Replace(good, "publickey\":[",
			"publickey\":"+string(AppendByteArray(nil, key[:]))+",\"x\":[", 1),
		"zero key": `{"secretkey":[0` + strings.Repeat(",0", 31) + `],"publickey":[0` +
			strings.Repeat(",0", 31) + `]}`,
		"bad member name": `{"` + keyText.EncodeToString(secret) + `"}`,
		"CA of another key": strings.Replace(goodCA, caSecret,
			string(AppendByteArray(nil, other.secret())), 1),
		"CA without cert":  `{"secretkey":` + caSecret + `}`,
		"CA of wrong type": strings.Replace(goodCA, `"self"`, `"ca"`, 1),
		"CA halves differ": strings.Replace(goodCA, caSecret,
			string(AppendByteArray(nil, append(bytes.Clone(other.secret()[:32]), key[:]...))), 1),
		"too large": good + strings.Repeat(" ", maxKeyFileSize),
	} {
		path := filepath.Join(t.TempDir(), "key.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, keyErr := ReadKeyPair(path)
		_, caErr := ReadCA(path)
		_, _, loadErr := LoadOrCreateKeyPair(path)
		_, certErr := ReadCertificate(path)
		for _, err := range []error{keyErr, caErr, loadErr, certErr} {
			if !errors.Is(err, ErrMalformedKey) && !errors.Is(err, ErrMalformedCertificate) {
				t.Errorf("%s: got %v", name, err)
				continue
			}
			for _, s := range [][]byte{secret, ca.secret()[:32], other.secret()[:32]} {
				for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
					if leak := leaked(fmt.Sprintf(verb, err), s); leak != "" {
						t.Errorf("%s: the error shows %s", name, leak)
					}
				}
			}
			if strings.Contains(err.Error(), "secret name") ||
				strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("%s: the error quotes the file: %v", name, err)
			}
		}
		if got := string(readFile(t, path)); got != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing")
	_, keyErr := ReadKeyPair(path)
	_, caErr := ReadCA(path)
	_, certErr := ReadCertificate(path)
	for _, err := range []error{keyErr, caErr, certErr} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(path, "below")
	if _, _, err := LoadOrCreateKeyPair(below); err == nil {
		t.Error("a key was made below what is no folder")
	}
	if err := newKeyPair(t).WriteFile(below); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("writing below what is no folder: %v", err)
	}
}

func TestLoadOrCreateKeyPair(t *testing.T) {
	path := filepath.Join(t.TempDir(), "culvert", "identity.json")
	kp, created, err := LoadOrCreateKeyPair(path)
	if err != nil || !created {
		t.Fatalf("%v, %v", created, err)
	}
	wantModes(t, path, 0o600)
	again, created, err := LoadOrCreateKeyPair(path)
	if err != nil || created || again.Public() != kp.Public() {
		t.Errorf("the second time: %v, %v, %v", again, created, err)
	}
}

// TestLoadOrCreateAtOnce: many goroutines and processes get one key, which one of them created.
func TestLoadOrCreateAtOnce(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "new", "identity.json")
		answers := make([]string, 24)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				if i%6 > 0 {
					answer, err := childLoad([]string{path})
					if err != nil {
						t.Error(err)
					}
					answers[i] = answer
					return
				}
				out, err := child(t, "load", path).Output()
				if err != nil {
					t.Error(err)
				}
				answers[i] = strings.TrimSpace(string(out))
			})
		}
		wg.Wait()
		made := 0
		for _, answer := range answers {
			key, created, _ := strings.Cut(answer, " ")
			if first, _, _ := strings.Cut(answers[0], " "); key != first || len(key) != 43 {
				t.Errorf("one got %q, another %q", first, key)
			}
			if created == "true" {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d of them report that they created it", made)
		}
		wantFiles(t, filepath.Dir(path), "identity.json")
	}
}

func childLoad(args []string) (string, error) {
	kp, created, err := LoadOrCreateKeyPair(args[0])
	if err != nil {
		return "", err
	}
	return fmt.Sprint(kp.Public(), " ", created), nil
}

func TestReadKeyPairFromPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := filepath.Join(t.TempDir(), "k")
	kp := newKeyPair(t)
	if err := kp.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(readFile(t, path))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// A shell's <(…) passes a pipe like this.
	got, err := ReadKeyPair(fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if err != nil || got.Public() != kp.Public() {
		t.Errorf("got %v, %v", got, err)
	}
}
