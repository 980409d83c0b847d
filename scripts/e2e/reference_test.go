//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// reference holds the arguments of e2e-server.js and e2e-client.js, which run the reference
// implementation.
type reference struct {
	URL         string `json:"url,omitempty"`
	Version     int    `json:"version"`
	Key         string `json:"key"`
	Cert        string `json:"cert,omitempty"`
	CA          string `json:"ca,omitempty"`
	RequireCert bool   `json:"requireCert"`
	Echo        bool   `json:"echo"`
}

// event is a line that they print.
type event struct {
	Event string `json:"event"`
	Port  int    `json:"port"`
	Code  int    `json:"code"`
	Bytes int    `json:"bytes"`
	Text  string `json:"text"`
}

// command returns a command that runs a script in scripts/interop.
func (r reference) command(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	folder := filepath.Join("..", "interop")
	node := needProgram(t, "node")
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "node-sws")); err != nil {
		t.Fatal("the npm package node-sws is missing from scripts/interop/node_modules: make test-deps " +
			"installs it")
	}
	argument, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return command(cleanEnv(t), folder, node, "--no-deprecation", script, string(argument))
}

// referenceClient is a running client of the reference implementation. It exits when its connection
// closes.
type referenceClient struct {
	*process
	stdin io.WriteCloser
}

func (r reference) startClient(t *testing.T) *referenceClient {
	t.Helper()
	cmd := r.command(t, "e2e-client.js")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &referenceClient{start(t, "the reference's client", cmd), stdin}
}

// send makes the client send a message.
func (c *referenceClient) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c.stdin, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

// waitEvent waits for an event of a reference process.
func waitEvent(t *testing.T, p *process, name string) event {
	t.Helper()
	line := p.stdout.waitLine(t, p, `"event":"`+name+`"`, patience)
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatalf("%s: %q: %v", p.name, line, err)
	}
	return e
}

// authority is a CA that issues certificates.
type authority struct {
	secret string // file
	cert   string // file
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	folder := t.TempDir()
	ca := authority{filepath.Join(folder, "ca-key.json"), filepath.Join(folder, "ca.json")}
	must(t, patience,
		culvert(t, "cert", "ca", "--name", "e2e.culvert.test", "--out", ca.secret, "--cert-out", ca.cert))
	return ca
}

// issue certifies a key and returns the certificate's file. The flags specify names and addresses.
func (ca authority) issue(t *testing.T, id identity, flags ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "cert.json")
	args := append([]string{"cert", "issue", "--ca-key", ca.secret, "--public-key=" + id.key, "--out",
		file}, flags...)
	must(t, patience, culvert(t, args...))
	return file
}
