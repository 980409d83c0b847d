package protocol

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"culvert/certs"
)

// These run the reference implementation, node-sws 1.2.1, on Node.

const interopFolder = "../scripts/interop"

// interopTimeout bounds a whole exchange with the reference, which opens and seals slowly.
const interopTimeout = 2 * time.Minute

// nodeCommand prepares a script of the interop folder. It fails with the name of what is missing.
func nodeCommand(tb testing.TB, ctx context.Context, script string) *exec.Cmd {
	tb.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		tb.Fatal("node is missing: make test-deps installs it")
	}
	folder := filepath.FromSlash(interopFolder)
	for _, name := range []string{"node-sws", "nacl-cert"} {
		if _, err := os.Stat(filepath.Join(folder, "node_modules", name)); err != nil {
			tb.Fatalf("the npm package %s is missing from scripts/interop/node_modules: make "+
				"test-deps installs it", name)
		}
	}
	cmd := exec.CommandContext(ctx, node, "--no-deprecation", script)
	cmd.Dir = folder
	return cmd
}

// referenceConfig is what sws-peer.js reads.
type referenceConfig struct {
	Role        string          `json:"role"`
	URL         string          `json:"url"`
	Version     int             `json:"version"`
	Key         referenceKey    `json:"key"`
	Cert        json.RawMessage `json:"cert"`
	CA          json.RawMessage `json:"ca"`
	RequireCert bool            `json:"requireCert"`
	Sizes       []int           `json:"sizes"`
	Expect      int             `json:"expect"`
}

// referenceKey is a key pair in the form of the reference. The fields are []int since []byte would
// become base64.
type referenceKey struct {
	SecretKey []int `json:"secretkey"`
	PublicKey []int `json:"publickey"`
}

func newReferenceKey(kp *certs.KeyPair) (k referenceKey) {
	public := kp.Public()
	for i := range keySize {
		k.SecretKey = append(k.SecretKey, int(kp.Secret()[i]))
		k.PublicKey = append(k.PublicKey, int(public[i]))
	}
	return k
}

func jsonOf(cert *certs.Certificate) json.RawMessage {
	if cert == nil {
		return json.RawMessage("null")
	}
	return cert.JSON()
}

// reference is a running sws-peer.js.
type reference struct {
	tb     testing.TB
	events *bufio.Scanner
}

// referenceEvent is a line of its output.
type referenceEvent struct {
	Event          string
	Port           int
	Peer           string
	Sent, Received string
	Text           string
	Code           int
	Reason         string
}

func startReference(tb testing.TB, config referenceConfig) *reference {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), interopTimeout)
	cmd := nodeCommand(tb, ctx, "sws-peer.js")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stdin.Close() // which ends it
		_, _ = io.Copy(io.Discard, stdout)
		err := cmd.Wait()
		cancel()
		if err != nil {
			tb.Errorf("the reference: %v", err)
		}
		if tb.Failed() {
			tb.Logf("the reference's stderr: %s", stderr.Bytes())
		}
	})
	line, err := json.Marshal(config)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := stdin.Write(append(line, '\n')); err != nil {
		tb.Fatal(err)
	}
	return &reference{tb: tb, events: bufio.NewScanner(stdout)}
}

// await reads events until the wanted one. An event of a failure before it fails the test.
func (r *reference) await(want string) referenceEvent {
	r.tb.Helper()
	for r.events.Scan() {
		var e referenceEvent
		if err := json.Unmarshal(r.events.Bytes(), &e); err != nil {
			r.tb.Fatalf("the reference's event %q: %v", r.events.Bytes(), err)
		}
		if e.Event == want {
			return e
		}
		if e.Event == "warn" || e.Event == "error" || e.Event == "timeout" || e.Event == "close" {
			r.tb.Fatalf("waiting for %s: %s: %s (code %d)", want, e.Event, e.Text, e.Code)
		}
	}
	r.tb.Fatalf("waiting for %s: the reference ended: %v", want, r.events.Err())
	return referenceEvent{}
}

// referenceServer starts the reference as a server with the server's part of p, and returns its
// address.
func referenceServer(
	tb testing.TB, p parties, version int, config referenceConfig,
) (*reference, string) {
	tb.Helper()
	config.Role, config.Version, config.Key = "server", version, newReferenceKey(p.server.Key)
	config.Cert, config.CA, config.RequireCert = jsonOf(p.server.Cert), jsonOf(p.server.CA),
		p.server.RequireCert
	r := startReference(tb, config)
	return r, fmt.Sprintf("ws://127.0.0.1:%d", r.await("listening").Port)
}

// referenceClient starts the reference as a client with the client's part of p.
func referenceClient(tb testing.TB, p parties, url string, config referenceConfig) *reference {
	tb.Helper()
	config.Role, config.URL, config.Version = "client", url, p.client.Version
	config.Key, config.Cert, config.CA = newReferenceKey(p.client.Key), jsonOf(p.client.Cert),
		jsonOf(p.client.CA)
	return startReference(tb, config)
}
