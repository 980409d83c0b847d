package tunnel

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/state"
	"culvert/internal/testnet"
	"culvert/tunnel/policy"
)

// TestState checks that both nodes report a session, its stream and what that has carried, and the
// loss of its carrier.
func TestState(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustLines(t, key.Public().String()+" laptop of tests"),
		func(cfg *RemoteConfig) {
			cfg.Events = state.NewEvents()
			cfg.Rights.Rules = mustParse(t, []string{"127.0.0.0/8"}, nil)
		})
	way := startFront(t, passTo(remote.server.Listener.Addr().String()))
	cfg := remote.localConfig(t, key)
	cfg.Events = state.NewEvents()
	var err error
	if cfg.Address, err = ParseAddress("ws://" + way.address + "/"); err != nil {
		t.Fatal(err)
	}
	local, _ := startLocal(t, cfg)
	target := testnet.EchoServer(t)
	entrance := startForward(t, local, target)
	conn := dialPlain(t, entrance)
	echoes(t, conn)

	near, far := local.State(), remote.State()
	checkSession(t, "local", near, target, remote.key.Public().String())
	checkSession(t, "remote", far, target, key.Public().String())
	if near.Carrier == nil || !near.Carrier.ForwardSecrecy || near.Carrier.Address != way.address {
		t.Errorf("local: carrier %+v", near.Carrier)
	}
	if near.Streams[0].Listener != entrance {
		t.Errorf("local: the stream's listener is %q, want %q", near.Streams[0].Listener, entrance)
	}
	session := far.Sessions[0]
	if session.Comment != "laptop of tests" || session.From != "127.0.0.1" ||
		session.Carrier == nil || session.Limits.Streams != 1 || session.ID != near.Sessions[0].ID {
		t.Errorf("remote: session %+v", session)
	}

	way.cut()
	until(t, "the session is resumed", func() bool { return local.State().Totals.Resumptions == 1 })
	echoes(t, conn)
	conn.Close()
	until(t, "the stream has ended", func() bool {
		return len(local.State().Streams)+len(remote.State().Streams) == 0
	})
	near, far = local.State(), remote.State()
	if near.Totals.CarriersLost != 1 || far.Totals.Streams != 1 || far.Totals.SentBytes != 8 {
		t.Errorf("totals %+v and %+v", near.Totals, far.Totals)
	}
	kinds := eventKinds(near)
	lost := slices.Index(kinds, state.EventCarrierLost)
	if kinds[0] != state.EventSessionUp || lost < 0 ||
		!slices.Contains(kinds[lost:], state.EventResumed) {
		t.Errorf("local: events %v", kinds)
	}
	if kinds := eventKinds(far); !slices.Contains(kinds, state.EventResumed) {
		t.Errorf("remote: events %v", kinds)
	}
}

// checkSession checks a node's only session and stream, which has echoed "ping".
func checkSession(t *testing.T, node string, s state.State, target, peer string) {
	t.Helper()
	if len(s.Sessions) != 1 || len(s.Streams) != 1 {
		t.Fatalf("%s: %d sessions, %d streams", node, len(s.Sessions), len(s.Streams))
	}
	session, stream := s.Sessions[0], s.Streams[0]
	if session.Key != peer || len(session.ID) != 8 || session.State != state.SessionCarried ||
		session.Streams != 1 || session.Opened != 1 || time.Since(session.Since) > patience {
		t.Errorf("%s: session %+v", node, session)
	}
	if stream.Target != target || stream.Kind != "tcp" || stream.State != state.StreamOpen ||
		stream.Session != session.ID || time.Since(stream.Since) > patience {
		t.Errorf("%s: stream %+v", node, stream)
	}
	for _, traffic := range []state.Traffic{session.Traffic, stream.Traffic, s.Totals.Traffic} {
		if traffic.SentBytes != 4 || traffic.ReceivedBytes != 4 {
			t.Errorf("%s: traffic %+v, want 4 bytes each way", node, traffic)
		}
	}
}

func eventKinds(s state.State) (kinds []string) {
	for _, e := range s.Events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// TestStateAfterSession checks that what a session has done stays in the totals once it has ended,
// and is counted once.
func TestStateAfterSession(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.Events = state.NewEvents()
		cfg.Rights.Rules = mustParse(t, []string{"127.0.0.0/8"}, nil)
	})
	local, _ := startLocal(t, remote.localConfig(t, key))
	target := testnet.EchoServer(t)
	reached(t, local, target)
	err := remote.Reload(remote.cfg.Identity, trustKeys(t, newKey(t)), remote.cfg.Rights)
	if err != nil {
		t.Fatal(err)
	}
	for name, node := range map[string]func() state.State{
		"local": local.State, "remote": remote.State,
	} {
		until(t, name+" has no session", func() bool { return len(node().Sessions) == 0 })
		got := node().Totals
		if got.Sessions != 1 || got.Streams != 1 || got.SentBytes != 1 || got.ReceivedBytes != 1 {
			t.Errorf("%s: totals %+v", name, got)
		}
	}
	kinds := eventKinds(remote.State())
	if !slices.Contains(kinds, state.EventSessionEnded) {
		t.Errorf("remote: events %v", kinds)
	}
}

// The schema of the state knows every kind of streams.
func TestStateKinds(t *testing.T) {
	schema, err := os.ReadFile("../docs/state.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	_, kinds, _ := strings.Cut(string(schema), `"kind": {
          "enum": [
            "tcp",`)
	kinds, _, _ = strings.Cut(`"tcp",`+kinds, "]")
	for _, kind := range kindNames {
		if !strings.Contains(kinds, `"`+kind+`"`) {
			t.Errorf("the schema doesn't know %q: %s", kind, kinds)
		}
	}
}

// TestAccessReverse checks that what comes in through -R is recorded as that, connections and
// datagrams alike.
func TestAccessReverse(t *testing.T) {
	t.Parallel()
	records := make(chan StreamRecord, 10)
	remote := startRemote(t, RemoteTrust{Anyone: true}, func(cfg *RemoteConfig) {
		cfg.Access = func(r StreamRecord) { records <- r }
		var err error
		if cfg.Rights.Reverse, err = policy.ParseReverseRules([]string{"localhost"}); err != nil {
			t.Fatal(err)
		}
	})
	local, _ := startLocal(t, remote.localConfig(t, newKey(t)))
	server := testnet.EchoUDPServer(t, "127.0.0.1:0")
	port, stopPort := serveReverseUDPTo(t, local, "127.0.0.1:0", server.String())
	askConn(t, dialUDP(t, port), []byte("datagram"))
	ln, stopListener := serveReverseTo(t, local, "127.0.0.1:0", testnet.EchoServer(t))
	conn := dialPlain(t, ln.Addr().String())
	echoes(t, conn)
	conn.Close()
	stopPort()
	stopListener()
	kinds := map[string]int{}
	for range 2 {
		select {
		case r := <-records:
			kinds[r.Kind]++
		case <-time.After(patience):
			t.Fatalf("recorded: %v", kinds)
		}
	}
	if kinds["reverse"] != 2 {
		t.Errorf("recorded: %v", kinds)
	}
}
