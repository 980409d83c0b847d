package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
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

// Associations beyond the limits of the remote and of a client are refused.
func TestExitsAreBounded(t *testing.T) {
	local, remote := startTunnel(t)
	// Opening that many sockets would need more descriptors than many machines provide.
	for range maxExits - 3 { // the last is left for others
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
	waitExits(t, remote.Remote, maxExits-3)
	for range maxExits - 3 {
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
		netip.Addr{},
		zerolog.Nop(),
	)
	client := &remoteClient{clientPlaces: clientPlaces{exits: newPlaces(0)}}
	full.serveFlow(accepted.(*mux.IncomingFlow), clientStream{remoteClient: client})
	if _, err := stream.Receive(nil); !errors.As(err, &refused) ||
		refused.Code != mux.CodeTooManyStreams {
		t.Errorf("one more of a client: %v", err)
	}
}

// A client may have another UDP socket while as many as it has are left for others.
func TestExitsLeftForOthers(t *testing.T) {
	key, other := newKey(t), newKey(t)
	s := startShares(t, trustKeys(t, key, other), nil)
	sessions, ctx := s.mustConnect(key, other), testnet.Within(t, patience)
	for range maxExits - 4 {
		s.Remote.exits.take()
	}
	open := func(session *mux.Session) error {
		_, err := session.OpenFlow(ctx, "")
		return err
	}
	if err := errors.Join(open(sessions[0]), open(sessions[0])); err != nil {
		t.Fatal(err)
	}
	if err := open(sessions[0]); openCode(err) != mux.CodeTooManyStreams {
		t.Errorf("a third of four: %v", err)
	}
	if err := open(sessions[1]); err != nil {
		t.Errorf("another client's: %v", err)
	}
}

// The UDP sockets in all sessions of a client count together, as does what its associations hold.
// Another client is not affected. All is given back when the sessions end.
func TestExitsOfOneClient(t *testing.T) {
	key, other := newKey(t), newKey(t)
	counts := &bounds.Counts{}
	s := startShares(t, trustKeys(t, key, other), func(cfg *RemoteConfig) { cfg.Bounds = counts })
	sessions, ctx := s.mustConnect(key, key, other), testnet.Within(t, patience)
	client, stranger := s.client(key), s.client(other)
	for range maxClientExits - 2 { // as many sockets are more than some machines permit
		client.exits.take()
	}
	echo := testnet.EchoUDPServer(t, "127.0.0.1:0")
	for _, session := range sessions {
		flow, err := session.OpenFlow(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		flow.SetReadDeadline(time.Now().Add(patience))
		flow.Send(endpoint{addr: echo.Addr(), port: echo.Port()}.append(nil))
		if _, err := flow.Receive(make([]byte, sourceSize)); err != nil {
			t.Fatal(err)
		}
	}
	for i, session := range sessions {
		_, err := session.OpenFlow(ctx, "")
		if refused := openCode(err) == mux.CodeTooManyStreams; refused != (i < 2) {
			t.Errorf("one more socket in session %d: %v", i, err)
		}
	}
	if n := counts.Of(bounds.ClientUDPExits); n != 2 {
		t.Errorf("%d refusals were counted", n)
	}
	for _, load := range []*exitLoad{client.exitLoad, stranger.exitLoad} {
		targets, contacts := load.targets.taken.Load(), load.contacts.taken.Load()
		want := int64(1)
		if load == client.exitLoad {
			want = 2
		}
		if targets != want || contacts != want {
			t.Errorf("%d targets, %d contacts; want %d", targets, contacts, want)
		}
	}
	sessions[0].Close()
	until(t, "a place is free", func() bool { return client.exits.taken() == maxClientExits-1 })
	if _, err := sessions[1].OpenFlow(ctx, ""); err != nil {
		t.Errorf("one more socket when another has gone: %v", err)
	}
	sessions[1].Close()
	until(t, "nothing is left", func() bool {
		load := client.exitLoad
		return client.exits.taken() == maxClientExits-2 &&
			load.targets.taken.Load() == 0 && load.contacts.taken.Load() == 0
	})
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
