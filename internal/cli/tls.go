package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"culvert/internal/cli/exit"
	"culvert/internal/secretfile"
	"culvert/tunnel"
)

// maxPEMSize bounds a file of certificates or a key in bytes, in case it is another kind of file. A
// bundle of all the roots of the web has some 250 KB.
const maxPEMSize = 1 << 20

// remoteTLS is the certificate of a remote's listeners, which a reload replaces.
type remoteTLS struct {
	current atomic.Pointer[tls.Certificate]
}

// loadServerCertificate reads a certificate and its key, nil if neither is named.
func loadServerCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, exit.Usagef("give both, in PEM files", "--tls-cert and --tls-key go together")
	}
	cert, err := readPEM(certFile)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the certificate of --tls-cert", err,
			secretfile.Hint(err, certFile))
	}
	key, err := readPrivatePEM(keyFile)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the key of --tls-key", err,
			secretfile.Hint(err, keyFile))
	}
	pair, err := tls.X509KeyPair(cert, key) // its errors quote nothing of the key
	if err != nil {
		// The prefix is Go's; there are no types to tell these errors apart.
		err = errors.New(strings.TrimPrefix(err.Error(), "tls: "))
		return nil, exit.Fail(exit.Failed, "can't use --tls-cert and --tls-key", err,
			"they are a certificate, followed by the intermediate ones, and its key, in PEM")
	}
	return &pair, nil
}

// use makes cert the current certificate, and returns the configuration that presents the current
// one, nil if cert is nil.
func (t *remoteTLS) use(cert *tls.Certificate) *tls.Config {
	if cert == nil {
		return nil
	}
	t.current.Store(cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // a WebSocket upgrade is HTTP/1.1 (RFC 6455, section 4.1)
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return t.current.Load(), nil
		},
	}
}

// loadTLS returns the settings for wss://, nil for the defaults.
func (o *routeOptions) loadTLS(config *tunnel.LocalConfig) (*tls.Config, error) {
	if o.tlsCA == "" && o.tlsServerName == "" {
		return nil, nil
	}
	secure := config.Address.Secure()
	for _, other := range config.Others {
		secure = secure || other.Address.Secure()
	}
	if !secure {
		return nil, exit.Usagef("only wss:// URLs use TLS",
			"--tls-ca and --tls-server-name do nothing for %s", config.Address)
	}
	cfg := &tls.Config{ServerName: o.tlsServerName, MinVersion: tls.VersionTLS12}
	if o.tlsCA == "" {
		return cfg, nil
	}
	text, err := readPEM(o.tlsCA)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the CA of --tls-ca", err,
			secretfile.Hint(err, o.tlsCA))
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(text) {
		return nil, exit.Fail(exit.Failed, "can't use the CA of --tls-ca",
			fmt.Errorf("%s holds no certificate", o.tlsCA),
			"it is in PEM: -----BEGIN CERTIFICATE-----")
	}
	return cfg, nil
}

// readPEM refuses a file that others than its owner may write to.
func readPEM(path string) ([]byte, error) {
	f, err := secretfile.OpenTrusted(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

// readPrivatePEM refuses a file that others than its owner may access.
func readPrivatePEM(path string) ([]byte, error) {
	f, err := secretfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

func readBounded(f *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxPEMSize+1))
	if err == nil && len(text) > maxPEMSize {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), maxPEMSize)
	}
	return text, err
}
