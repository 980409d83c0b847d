package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
)

func TestSteps(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)
	var steps []Step
	cfg.OnProgress = func(p Progress) { steps = append(steps, p.Step) }
	state, roundTrip, err := Connect(testnet.Within(t, patience), cfg)
	if err != nil || roundTrip <= 0 || !state.Peer.Key.Equal(remote.key.Public()) {
		t.Fatalf("%v, %v", roundTrip, err)
	}
	if got := fmt.Sprint(steps); got != "[tcp upgrade handshake session]" {
		t.Errorf("steps: %s", got)
	}
}

func TestVersion2(t *testing.T) {
	now := time.Now()
	ca, err := certs.NewCA(
		bytes.NewReader(randomBytes(t, 1024)),
		"test CA",
		now,
		now.Add(time.Hour),
	)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(key *certs.KeyPair) *certs.Certificate {
		cert, err := ca.Issue(bytes.NewReader(randomBytes(t, 1024)), now, certs.Request{
			PublicKey: key.Public(),
			Names:     []string{"localhost"},
			IPs:       []string{"127.0.0.1"},
			Expires:   now.Add(time.Minute),
		})
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	key := newKey(t)
	trust := RemoteTrust{RequireCert: true, CA: ca.Certificate()}
	remote := startRemote(
		t,
		trust,
		func(cfg *RemoteConfig) { cfg.Identity.Cert = issue(cfg.Identity.Key) },
	)
	cfg := remote.localConfig(t, key)
	if err := NewLocal(cfg).Run(testnet.Within(t, patience)); !IsAdmissionError(err) {
		t.Errorf("version 1 where a certificate is required: %v", err)
	}
	cfg.CA = ca.Certificate()
	if err := NewLocal(cfg).Run(testnet.Within(t, patience)); !IsAdmissionError(err) {
		t.Errorf("no certificate where one is required: %v", err)
	}
	cfg.Cert = issue(newKey(t))
	if err := NewLocal(cfg).Run(testnet.Within(t, patience)); err == nil {
		t.Error("a certificate of another key was admitted")
	}
	cfg.Cert = issue(key)
	state, _, err := Connect(testnet.Within(t, patience), cfg)
	if err != nil || state.Version != 2 {
		t.Fatalf("version %d, %v", state.Version, err)
	}
	good := cfg.Cert
	cfg.Cert = issue(newKey(t)) // of before
	cfg.NextCert = func() (*certs.Certificate, error) { return good, errors.New("unreadable now") }
	if _, _, err := Connect(testnet.Within(t, patience), cfg); err != nil {
		t.Errorf("the next certificate is not presented: %v", err)
	}
}

// The configured header and Host reach the server.
func TestHeader(t *testing.T) {
	got := make(chan *http.Request, 1)
	address := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil {
			got <- request
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		}
	})
	remote, err := ParseAddress("ws://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	cfg := LocalConfig{
		Address: remote,
		Key:     newKey(t),
		Header:  http.Header{"Host": {"front.example"}, "X-Token": {"1", "2"}},
	}
	var status *StatusError
	if _, _, err := Connect(testnet.Within(t, 10*time.Second), cfg); !errors.As(err, &status) ||
		status.Code != http.StatusForbidden {
		t.Fatal(err)
	}
	request := receive(t, got)
	if request.Host != "front.example" || fmt.Sprint(request.Header["X-Token"]) != "[1 2]" {
		t.Errorf("Host %q, header %v", request.Host, request.Header)
	}
}

// endingRules end the sessions of a remote when one of them asks for a target.
type endingRules struct {
	remoteRules
	remote *Remote
}

func (r endingRules) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r.remote.mu.Lock()
	for session := range r.remote.sessions {
		go session.Close()
	}
	r.remote.mu.Unlock()
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestConnectToLost: that the session is lost while a target is asked for says nothing about the
// target.
func TestConnectToLost(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	remote.mu.Lock()
	remote.dialer = func(rules remoteRules) remoteRules { return endingRules{rules, remote.Remote} }
	remote.mu.Unlock()
	cfg := remote.localConfig(t, key)
	_, _, err := ConnectTo(testnet.Within(t, patience), cfg, "127.0.0.1:1")
	step, ok := errors.AsType[*ConnectError](err)
	if !ok || step.Step != StepSession {
		t.Errorf("got %v", err)
	}
	if target, is := errors.AsType[*TargetError](err); is {
		t.Errorf("the target is blamed: %v", target)
	}
}
