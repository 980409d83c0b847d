//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// webCA is a private CA for TLS.
type webCA struct {
	file string // its certificate in PEM
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newWebCA(t *testing.T) *webCA {
	t.Helper()
	ca := &webCA{}
	ca.cert, ca.key, ca.file = makeCertificate(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "a private CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return ca
}

// issue makes a certificate for a name, and returns its file, its key's file and its serial number.
func (ca *webCA) issue(t *testing.T, name string) (certFile, keyFile string, serial *big.Int) {
	t.Helper()
	cert, key, certFile := makeCertificate(t, ca, &x509.Certificate{DNSNames: []string{name}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile = writeFile(t, "key.pem",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return certFile, keyFile, cert.SerialNumber
}

// makeCertificate signs a certificate with the CA, or with its own key if ca is nil.
func makeCertificate(t *testing.T, ca *webCA,
	template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	issuer, issuerKey := template, key
	if ca != nil {
		issuer, issuerKey = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, writeFile(t, "cert.pem",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// A remote serves TLS itself, under a private CA, with a fallback site: a visitor's curl gets the
// site with the right certificate, and a local connects; with another CA or name, local exits with
// status 4. SIGHUP replaces the certificate while a session continues.
func TestTLSAndFallback(t *testing.T) {
	t.Parallel()
	const name = "exit.culvert.test"
	ca, otherCA := newWebCA(t), newWebCA(t)
	certFile, keyFile, first := ca.issue(t, name)
	server, client, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Site", "ordinary")
		w.Write([]byte("an ordinary page at " + r.URL.Path + "\n"))
	}))
	t.Cleanup(site.Close)
	remote := startNode(t, "remote",
		culvert(t, remoteArgs(server, "--path", "/tunnel", "--fallback", site.URL,
			"--tls-cert", certFile, "--tls-key", keyFile,
			"--authorized-keys", writeFile(t, "authorized_keys", client.key+"\n"))...))
	url := "wss://" + remote.listen[0] + "/tunnel"
	local := startNode(t, "local",
		culvert(t, localArgs(client, server, url, "--tls-ca", ca.file, "--tls-server-name", name)...))
	web := startSite(t)
	download := startDrip(t, &tunnel{local: local}, web, "whole")

	_, port, err := net.SplitHostPort(remote.listen[0])
	if err != nil {
		t.Fatal(err)
	}
	visit := func(args ...string) result {
		return run(t, patience,
			command(cleanEnv(t), t.TempDir(), needProgram(t, "curl"), append([]string{"-q", "-sS",
				"--cacert", ca.file, "--resolve", name + ":" + port + ":127.0.0.1"}, args...)...))
	}
	base := "https://" + name + ":" + port
	upgrade := []string{"-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H",
		"Sec-WebSocket-Version: 13"}
	for _, args := range [][]string{
		{base + "/tunnel"},
		{"-X", "POST", base + "/tunnel"},
		append(upgrade, base+"/tunnel"), // without Sec-WebSocket-Key, or curl would get a 101
	} {
		if r := visit(args...); r.status != 0 || r.stdout != "an ordinary page at /tunnel\n" {
			t.Errorf("%v: status %d, %q, %s", args, r.status, r.stdout, r.stderr)
		}
	}
	if r := visit("--head", base+"/"); !strings.Contains(r.stdout, "HTTP/1.1 200 OK") ||
		!strings.Contains(r.stdout, "X-Site: ordinary") {
		t.Errorf("status %d, %q, %s", r.status, r.stdout, r.stderr)
	}

	for what, test := range map[string]struct {
		args   []string
		status int
	}{
		"another CA": {localArgs(client, server, url, "--tls-ca", otherCA.file, "--tls-server-name",
			name), 4},
		"the system's": {localArgs(client, server, url, "--tls-server-name", name), 4},
		"another name": {localArgs(client, server, url, "--tls-ca", ca.file, "--tls-server-name",
			"other.culvert.test"), 4},
		"the URL's": {localArgs(client, server, url, "--tls-ca", ca.file), 4},
		"another key": {localArgs(client, client, url, "--tls-ca", ca.file, "--tls-server-name",
			name), 4},
		"a stranger": {localArgs(stranger, server, url, "--tls-ca", ca.file, "--tls-server-name",
			name), 5},
		"without TLS": {localArgs(client, server, "ws"+url[3:]), 3},
		"the site's path": {localArgs(client, server, strings.TrimSuffix(url, "tunnel"), "--tls-ca",
			ca.file, "--tls-server-name", name), 3},
	} {
		if r := run(t, patience, culvert(t, test.args...)); r.status != test.status {
			t.Errorf("%s: status %d, want %d; %s", what, r.status, test.status, r.stderr)
		}
	}

	newCert, newKey, second := ca.issue(t, name)
	copyFile(t, newCert, certFile)
	copyFile(t, newKey, keyFile)
	remote.signal(syscall.SIGHUP)
	remote.stderr.waitLine(t, remote.process, "INF reloaded", patience)
	if r := visit("-o", "/dev/null", "-w", "%{certs}", base+"/"); !strings.Contains(serials(r.stdout),
		second.Text(16)) ||
		strings.Contains(serials(r.stdout), first.Text(16)) {
		t.Errorf("after SIGHUP the serial number is not %x in\n%s%s", second, r.stdout, r.stderr)
	}
	if status := download.wait(patience); status != 0 ||
		len(download.stdout.String()) != drips*dripSize {
		t.Errorf("the download: status %d, %s bytes", status, strconv.Itoa(len(download.stdout.String())))
	}
}

// serials returns the lines with serial numbers, without separators between the digits.
func serials(certs string) string {
	var lines string
	for line := range strings.Lines(certs) {
		if number, ok := strings.CutPrefix(line, "Serial Number:"); ok {
			lines += strings.NewReplacer(":", "", " ", "").Replace(number)
		}
	}
	return lines
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	must(t, patience, command(cleanEnv(t), filepath.Dir(to), "cp", from, to))
}
