//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// checked checks the output of `culvert check`: its steps in order, and its last line.
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
		t.Errorf("step %q is missing or out of order in\n%s", steps[at], r.stdout)
	}
}

func TestCheckRemote(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	r := run(t, patience,
		culvert(t, "check", "--key", tun.client.file, "--remote-key", tun.server.key, tun.remote.url()))
	checked(t, r, "the tunnel works", "tcp", "upgrade", "handshake", "identity", "session",
		"round trip")
}

const noRemote = "the handshake works, but this is not a culvert remote: it serves no tunnel"

// A server of the reference implementation completes the handshake, and check recognizes it as not
// a culvert remote: in version 1 it answers with another protocol, in version 2 not at all.
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
			p, url := test.server.startServer(t)
			r := run(t, patience,
				culvert(t, append(append([]string{"check", "--key", client.file}, test.flags...), url)...))
			checked(t, r, noRemote, "tcp", "upgrade", "handshake", "identity", "session")
			waitEvent(t, p, "open")
			waitEvent(t, p, "message") // the record was opened there
			r = run(t, patience, culvert(t, append(append(
				[]string{"check", "--target", "127.0.0.1:1", "--key", client.file}, test.flags...), url)...))
			if r.status == 0 || !strings.Contains(r.stderr, "not a culvert remote") {
				t.Errorf("a target through it: status %d, %s", r.status, r.stderr)
			}
		})
	}
}

// startServer starts a server of the reference implementation.
func (r reference) startServer(t *testing.T) (p *process, url string) {
	t.Helper()
	p = start(t, "the reference's server", r.command(t, "e2e-server.js"))
	return p, fmt.Sprintf("ws://127.0.0.1:%d/", waitEvent(t, p, "listening").Port)
}

// Servers of the reference implementation refuse a client by closing the connection, at once or
// after 2 seconds, without a reason. culvert distinguishes that from an unreachable server.
func TestReferenceServerRefuses(t *testing.T) {
	t.Parallel()
	server, client := newIdentity(t), newIdentity(t)
	ca, otherCA := newAuthority(t), newAuthority(t)
	strict := reference{
		Version: 2, Key: server.file, Cert: ca.issue(t, server, "--ip", "127.0.0.1"), CA: ca.cert,
		RequireCert: true,
	}
	for name, test := range map[string]struct {
		server reference
		flags  []string
		want   []string // in the error
	}{
		"another version, 2 seconds": {
			strict, []string{"--remote-key", server.key},
			[]string{" refuses our handshake: ", "--ca selects version 2"},
		},
		"the other way round": {
			reference{Version: 1, Key: server.file}, []string{"--ca", ca.cert},
			[]string{" refuses our handshake: ", "leaving it out version 1"},
		},
		"another CA": {
			strict, []string{"--ca", ca.cert, "--cert", otherCA.issue(t, client, "--ip", "127.0.0.1")},
			[]string{" refuses us after the handshake: ", "may not accept our certificate"},
		},
		"another address": {
			strict, []string{"--ca", ca.cert, "--cert", ca.issue(t, client, "--ip", "192.0.2.1")},
			[]string{" refuses us after the handshake: ", "may not accept our certificate"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := test.server.startServer(t)
			for _, command := range [][]string{{"check"}, {"local", "--socks", "0"}} {
				args := append(command, "--key", client.file)
				r := run(t, patience, culvert(t, append(append(args, test.flags...), url)...))
				if r.status != exitNotAdmitted || strings.Contains(r.stderr, "can't be reached") {
					t.Errorf("%s: status %d, %s", command[0], r.status, r.stderr)
				}
				for _, want := range test.want {
					if !strings.Contains(r.stderr, want) {
						t.Errorf("%s: %q is not in %s", command[0], want, r.stderr)
					}
				}
			}
		})
	}
}
