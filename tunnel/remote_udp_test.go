package tunnel

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

func waitExits(t testing.TB, remote *Remote, want int) {
	t.Helper()
	until(
		t,
		fmt.Sprint(want, " sockets are open"),
		func() bool { return remote.exits.taken() == want },
	)
}

// Associations beyond the limits of the remote and of a session are refused.
func TestExitsAreBounded(t *testing.T) {
	local, remote := startTunnel(t)
	// Opening that many sockets would need more descriptors than many machines provide.
	for range maxExits - 2 {
		remote.exits.take()
	}
	first, second := associate(t, local), associate(t, local)
	var refused *mux.OpenError
	if _, err := local.Associate(testnet.Within(t, 10*time.Second)); !errors.As(err, &refused) ||
		refused.Code != mux.CodeTooManyStreams {
		t.Errorf("one more: %v", err)
	}
	first.Close()
	second.Close()
	waitExits(t, remote.Remote, maxExits-2)
	for range maxExits - 2 {
		remote.exits.leave()
	}

	near, far := muxPair(t)
	stream, err := near.OpenFlowAtOnce("")
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := far.Accept(testnet.Within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	full := newRemoteSession(
		context.Background(),
		remote.Remote,
		far,
		certs.PublicKey{},
		zerolog.Nop(),
	)
	full.exits = newPlaces(0)
	full.serveFlow(accepted.(*mux.IncomingFlow), nil)
	if _, err := stream.Receive(nil); !errors.As(err, &refused) ||
		refused.Code != mux.CodeTooManyStreams {
		t.Errorf("one more of a session: %v", err)
	}
}

// The rules of the remote hold for the targets of UDP forwards.
func TestForwardUDPRules(t *testing.T) {
	local, _ := startUDPTunnel(t)
	conn, err := local.wait(testnet.Within(t, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]mux.Code{
		"127.0.0.66:53":   mux.CodeNotAllowed,
		"rebound.test:53": mux.CodeNotAllowed,
		"127.0.0.1:7":     mux.CodeNotAllowed,
		"unknown.test:53": mux.CodeNameNotFound,
		"127.0.0.1":       mux.CodeBadTarget,
	} {
		stream, err := conn.session.OpenFlowAtOnce(target)
		if err != nil {
			t.Fatal(err)
		}
		var refused *mux.OpenError
		if _, err := stream.Receive(nil); !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%s: %v, want %v", target, err, want)
		}
		stream.Close()
	}
}
