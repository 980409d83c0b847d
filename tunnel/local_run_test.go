package tunnel

import (
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
)

func TestUnknownClientIsRefused(t *testing.T) {
	remote := startRemote(t, trustKeys(t, newKey(t)), nil)
	local := NewLocal(remote.localConfig(t, newKey(t)))
	err := local.Run(testnet.Within(t, patience))
	if !IsAdmissionError(err) || IsIdentityError(err) {
		t.Fatalf("run: %v", err)
	}
	if _, err := local.DialContext(
		testnet.Within(t, patience), "tcp", "127.0.0.1:1",
	); !IsAdmissionError(err) {
		t.Fatalf("dial: %v", err)
	}
}

func TestWrongRemoteIsRefused(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)
	cfg.VerifyRemote = func(protocol.Peer) error { return certs.ErrUnknownRemote }
	err := NewLocal(cfg).Run(testnet.Within(t, patience))
	if !IsIdentityError(err) || !errors.Is(err, certs.ErrUnknownRemote) {
		t.Fatalf("run: %v", err)
	}
}

func TestNoRemote(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)

	elsewhere, err := ParseAddress(remote.server.URL + "/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	wrongPath := cfg
	wrongPath.Address = elsewhere
	var status *StatusError
	if err := NewLocal(wrongPath).Run(testnet.Within(t, patience)); !errors.As(err, &status) ||
		status.Code != http.StatusNotFound {
		t.Errorf("wrong path: %v", err)
	}

	remote.server.Close()
	var connect *ConnectError
	err = NewLocal(cfg).Run(testnet.Within(t, patience))
	if !errors.As(err, &connect) || connect.Step != StepTCP ||
		!errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no listener: %v", err)
	}
}

// A lost session ends its streams with an error, and a new one serves new streams.
func TestReconnect(t *testing.T) {
	local, remote := startTunnel(t)
	target := testnet.EchoServer(t)
	before := dial(t, local, target)
	remote.mu.Lock()
	for session := range remote.sessions {
		go session.Close()
	}
	remote.mu.Unlock()
	if _, err := before.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a stream of the lost session: %v", err)
	}
	after := dial(t, local, target)
	after.Write([]byte("x"))
	if _, err := io.ReadFull(after, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
