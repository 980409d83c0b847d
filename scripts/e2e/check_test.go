//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// checked checks what `culvert check` has printed: its steps in their order, and its last line.
func checked(t *testing.T, r result, last string, steps ...string) {
	t.Helper()
	if r.status != 0 || r.stderr != "" {
		t.Errorf("status %d, %q", r.status, r.stderr)
	}
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if got := lines[len(lines)-1]; got != last {
		t.Errorf("the last line is %q, want %q", got, last)
	}
	at := 0
	for _, line := range lines {
		if at < len(steps) && strings.HasPrefix(line, steps[at]+" ") {
			at++
		}
	}
	if at < len(steps) {
		t.Errorf("there is no step %q, or not in this place, in\n%s", steps[at], r.stdout)
	}
}

func TestCheckRemote(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	r := run(t, patience, culvert(t, "check", "--key", tun.client.file, "--remote-key", tun.server.key, tun.remote.url()))
	checked(t, r, "the tunnel works", "tcp", "upgrade", "handshake", "identity", "session", "round trip")
}

const noRemote = "the handshake works, but this is not a culvert remote: it serves no tunnel"

// A server of the reference completes the handshake, and check tells that it is one: a server that answers with
// something else, in version 1, and one that does not answer, in version 2.
func TestCheckReferenceServer(t *testing.T) {
	t.Parallel()
	server, client, ca := newIdentity(t), newIdentity(t), newAuthority(t)
	serverCert := ca.issue(t, server, "--ip", "127.0.0.1")
	for name, test := range map[string]struct {
		server reference
		flags  []string
	}{
		"version 1": {
			reference{Version: 1, Echo: true},
			[]string{"--remote-key", server.key},
		},
		"version 2": {
			reference{Version: 2, Cert: serverCert, CA: ca.cert},
			[]string{"--ca", ca.cert},
		},
		"version 2, certificate required": {
			reference{Version: 2, Cert: serverCert, CA: ca.cert, RequireCert: true, Echo: true},
			[]string{"--ca", ca.cert, "--cert", ca.issue(t, client, "--ip", "127.0.0.1")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.server.Key = server.file
			p := start(t, "the reference's server", test.server.command(t, "e2e-server.js"))
			url := fmt.Sprintf("ws://127.0.0.1:%d/", waitEvent(t, p, "listening").Port)
			r := run(t, patience, culvert(t, append(append([]string{"check", "--key", client.file}, test.flags...), url)...))
			checked(t, r, noRemote, "tcp", "upgrade", "handshake", "identity", "session")
			waitEvent(t, p, "open")
			waitEvent(t, p, "message") // the record was opened there
		})
	}
}
