//go:build linux

package e2e

import (
	"strings"
	"testing"
)

// Close codes of package protocol that a refused client gets, and the normal closure of RFC 6455,
// section 7.4.1.
const (
	closeNormal      = 1000
	closeVersion     = 4402
	closeNotAdmitted = 4403
	closeCertificate = 4404
)

// A client of the reference implementation is admitted by its key or by its certificate, and
// refused otherwise.
func TestReferenceClient(t *testing.T) {
	t.Parallel()
	server, ca, otherCA := newIdentity(t), newAuthority(t), newAuthority(t)
	listed, unlisted := newIdentity(t), newIdentity(t)
	keys := writeFile(t, "authorized_keys", listed.key+"\n")
	cert := ca.issue(t, server, "--ip", "127.0.0.1")
	byKey := []string{"--authorized-keys", keys, "--cert", cert}
	byCert := []string{"--ca", ca.cert, "--require-client-cert", "--cert", cert}
	here, elsewhere := []string{"--ip", "127.0.0.1"}, []string{"--ip", "192.0.2.1"}

	for _, test := range []struct {
		name    string
		remote  []string
		client  reference
		refused int // the code, 0 when the client is admitted
	}{
		{"key listed, version 1", byKey, reference{Version: 1, Key: listed.file}, 0},
		{"key listed, version 2", byKey, reference{Version: 2, Key: listed.file, CA: ca.cert}, 0},
		{"key not listed, version 1", byKey, reference{Version: 1, Key: unlisted.file}, closeNotAdmitted},
		{"key not listed, version 2", byKey, reference{Version: 2, Key: unlisted.file, CA: ca.cert},
			closeNotAdmitted},
		{"key not listed, though certified", byKey,
			reference{Version: 2, Key: unlisted.file, CA: ca.cert,
				Cert: ca.issue(t, unlisted, here...)}, closeNotAdmitted},
		{"certified", byCert,
			reference{Version: 2, Key: unlisted.file, CA: ca.cert, Cert: ca.issue(t, unlisted)}, 0},
		{"certified for this address", byCert,
			reference{Version: 2, Key: unlisted.file, CA: ca.cert, Cert: ca.issue(t, unlisted, here...)}, 0},
		{"certified for another address", byCert,
			reference{Version: 2, Key: unlisted.file, CA: ca.cert,
				Cert: ca.issue(t, unlisted, elsewhere...)}, closeCertificate},
		{"certified by another CA", byCert,
			reference{Version: 2, Key: unlisted.file, CA: ca.cert,
				Cert: otherCA.issue(t, unlisted, here...)}, closeCertificate},
		{"another one's certificate", byCert,
			reference{Version: 2, Key: unlisted.file, CA: ca.cert,
				Cert: ca.issue(t, listed, here...)}, closeCertificate},
		{"no way to show a certificate", byCert, reference{Version: 1, Key: listed.file}, closeVersion},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			remote := startNode(t, "remote", culvert(t, remoteArgs(server, test.remote...)...))
			test.client.URL = remote.url()
			client := test.client.startClient(t)
			if test.refused != 0 {
				wasRefused(t, client, remote, test.refused)
				return
			}
			wasAdmitted(t, client, remote)
		})
	}
}

// wasRefused checks that a client was refused and received no message.
func wasRefused(t *testing.T, client *referenceClient, remote *node, code int) {
	t.Helper()
	if got := waitEvent(t, client.process, "close").Code; got != code {
		t.Errorf("closed with %d, want %d", got, code)
	}
	if out := client.stdout.String(); strings.Contains(out, `"message"`) {
		t.Errorf("a message came through:\n%s", out)
	}
	remote.stderr.waitLine(t, remote.process, "client refused", patience)
}

// wasAdmitted checks that a client has completed the handshake: the remote waits for its first
// record and opens it. The record isn't culvert's session protocol, so the remote closes this
// connection and keeps serving others.
func wasAdmitted(t *testing.T, client *referenceClient, remote *node) {
	t.Helper()
	waitEvent(t, client.process, "open")
	client.send(t, "this is the reference, not culvert")
	if got := waitEvent(t, client.process, "close").Code; got != closeNormal {
		t.Errorf("closed with %d, want %d", got, closeNormal)
	}
	remote.stderr.waitLine(t, remote.process, "does not speak culvert's session protocol", patience)
}

// A client without a certificate closes the connection itself when the remote requires one, before
// it sends any message.
func TestReferenceClientWithoutCertificate(t *testing.T) {
	t.Parallel()
	server, ca := newIdentity(t), newAuthority(t)
	remote := startNode(t, "remote", culvert(t, remoteArgs(server,
		"--ca", ca.cert, "--require-client-cert", "--cert", ca.issue(t, server, "--ip", "127.0.0.1"))...))
	client := reference{URL: remote.url(), Version: 2, Key: newIdentity(t).file,
		CA: ca.cert}.startClient(t)
	waitEvent(t, client.process, "close")
	if out := client.stdout.String(); !strings.Contains(out, "Miss client cert") ||
		strings.Contains(out, `"open"`) {
		t.Errorf("the client printed\n%s", out)
	}
}
