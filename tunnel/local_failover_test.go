package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/certs"
	"culvert/internal/state"
	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// awaySite is a remote that can be lost, at the end of a path.
type awaySite struct {
	*testRemote
	path *testnet.Relay
}

func startSite(t *testing.T, key *certs.KeyPair, change func(*RemoteConfig)) *awaySite {
	t.Helper()
	remote := startRemote(t, trustKeys(t, key), change)
	address := strings.TrimPrefix(remote.server.URL, "http://")
	return &awaySite{remote, testnet.RelayTo(t, address, testnet.RelayConfig{})}
}

// lose cuts all connections to the site, and lets no new ones pass.
func (s *awaySite) lose() {
	s.path.SetDown(true)
	s.path.Cut()
}

// revoke makes the site admit others only.
func (s *awaySite) revoke(t *testing.T) {
	t.Helper()
	identity := RemoteIdentity{Key: s.key}
	if err := s.Reload(identity, trustKeys(t, newKey(t)), s.cfg.Rights); err != nil {
		t.Fatal(err)
	}
}

func (s *awaySite) address(t *testing.T) Address {
	t.Helper()
	address, err := ParseAddress("ws://" + s.path.Address() + "/")
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// startWithSites starts a local that uses remotes in their order, and waits until it is connected.
func startWithSites(t *testing.T, key *certs.KeyPair, sites ...*awaySite) *Local {
	t.Helper()
	local, _ := startLocal(t, configForSites(t, key, sites...))
	if _, err := local.WaitSession(testnet.Within(t, patience)); err != nil {
		t.Fatal(err)
	}
	return local
}

func configForSites(t *testing.T, key *certs.KeyPair, sites ...*awaySite) LocalConfig {
	t.Helper()
	cfg := sites[0].localConfig(t, key)
	cfg.Address = sites[0].address(t)
	for _, s := range sites[1:] {
		cfg.Others = append(cfg.Others, OtherRemote{s.address(t), s.pin})
	}
	cfg.FailoverAfter, cfg.FailbackAfter = 50*time.Millisecond, 50*time.Millisecond
	cfg.Events = state.NewEvents()
	cfg.Observer = newRecorder()
	return cfg
}

// resumptions returns how many sessions of the local were resumed, and how many lost instead.
func resumptions(l *Local) (resumed, lost int) {
	r := l.cfg.Observer.(*recorder)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resumed, r.lost
}

// at reports whether new streams of the local go to a site.
func (s *awaySite) at(l *Local) func() bool {
	return func() bool {
		conn := l.connection()
		return conn != nil && conn.session.Err() == nil &&
			conn.connector.address.String() == "ws://"+s.path.Address()+"/"
	}
}

// TestFailover: when a remote is lost, new streams go to the next one, and those that are there go
// on once it is back. Then new streams go to it again, and those of the other end where they are.
func TestFailover(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	best, second := startSite(t, key, nil), startSite(t, key, nil)
	echo := testnet.EchoServer(t)
	local := startWithSites(t, key, best, second)
	old := dial(t, local, echo)
	echoes(t, old)
	if !best.at(local)() || second.count() != 0 {
		t.Fatal("the best remote is not used")
	}

	lost := local.connection().session
	best.lose()
	until(t, "the loss is noticed", func() bool { return lost.Stats().Away })
	meanwhile := dial(t, local, echo)
	echoes(t, meanwhile)
	if !second.at(local)() {
		t.Error("new streams don't go to the second remote")
	}

	best.path.SetDown(false)
	echoes(t, old)
	until(t, "new streams go to the best remote", best.at(local))
	echoes(t, dial(t, local, echo))
	echoes(t, meanwhile)
	meanwhile.Close()
	until(t, "the second remote has no session", func() bool { return second.count() == 0 })
	old.Close()
	until(t, "one session is left", func() bool { return len(local.connections()) == 1 })

	var switches int
	for _, e := range local.State().Events {
		if e.Kind == state.EventSwitched {
			switches++
		}
	}
	if switches != 2 {
		t.Errorf("%d switches are reported, want 2", switches)
	}
	if resumed, lost := resumptions(local); resumed != 1 || lost != 0 {
		t.Errorf("%d resumptions and %d losses are observed, want one resumption", resumed, lost)
	}
}

// TestFailoverWithOneSession: a client that may have one session with each remote changes between
// them as others do, and the sessions that it has retired go on.
func TestFailoverWithOneSession(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	one := func(cfg *RemoteConfig) { cfg.Rights.Share.Sessions = 1 }
	best, second := startSite(t, key, one), startSite(t, key, one)
	echo := testnet.EchoServer(t)
	local := startWithSites(t, key, best, second)
	old := dial(t, local, echo)
	echoes(t, old)
	var meanwhile []net.Conn
	for range 3 {
		best.lose()
		until(t, "new streams go to the second remote", second.at(local))
		conn := dial(t, local, echo)
		echoes(t, conn)
		meanwhile = append(meanwhile, conn)

		best.path.SetDown(false)
		until(t, "new streams go to the best remote", best.at(local))
		echoes(t, dial(t, local, echo))
		echoes(t, old)
		for _, conn := range meanwhile {
			echoes(t, conn)
		}
	}
}

// TestSwitchSaysWhy: the event of a switch has the reason of that, not of an earlier loss.
func TestSwitchSaysWhy(t *testing.T) {
	t.Parallel()
	local, best, second := startPatient(t)
	session := local.connection().session
	best.path.Cut()
	until(t, "a lost connection is replaced", func() bool {
		return session.LossCause() != nil && !session.Stats().Away
	})
	until(t, "the remote has the connection too", func() bool {
		best.mu.Lock()
		defer best.mu.Unlock()
		for session := range best.sessions {
			if session.Stats().Away {
				return false
			}
		}
		return true
	})
	best.revoke(t)
	until(t, "the second remote is used", second.at(local))
	for _, e := range local.State().Events {
		if want := fmt.Sprint(session.Err()); e.Kind == state.EventSwitched && e.Reason != want {
			t.Errorf("the reason is %q, want %q", e.Reason, want)
		}
	}
}

// TestFailoverCostsNoStream: streams that are opened all the time while remotes come and go are all
// opened, also those whose remote is lost before it has answered.
func TestFailoverCostsNoStream(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	best, second := startSite(t, key, nil), startSite(t, key, nil)
	echo := testnet.EchoServer(t)
	cfg := configForSites(t, key, best, second)
	cfg.FastOpen = FastOpenNever
	local, _ := startLocal(t, cfg)
	stop := make(chan struct{})
	var opening sync.WaitGroup
	for range 4 {
		opening.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := local.DialContext(testnet.Within(t, patience), "tcp", echo)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		})
	}
	for range 3 {
		until(t, "the best remote is used", best.at(local))
		best.lose()
		until(t, "the second remote is used", second.at(local))
		best.path.SetDown(false)
	}
	close(stop)
	opening.Wait()
}

// TestFirstRemoteAway: at the start, the best remote that answers is used, without much waiting for
// one that doesn't, and without a word lost about one with a wrong key.
func TestFirstRemoteAway(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, s *awaySite, cfg *LocalConfig){
		"refuses connections": func(t *testing.T, s *awaySite, cfg *LocalConfig) { s.lose() },
		"is silent": func(t *testing.T, s *awaySite, cfg *LocalConfig) {
			t.Cleanup(s.path.Freeze())
		},
		"has another key": func(t *testing.T, s *awaySite, cfg *LocalConfig) {
			cfg.VerifyRemote = (&testRemote{key: newKey(t)}).pin
		},
		"admits others only": func(t *testing.T, s *awaySite, cfg *LocalConfig) {
			s.revoke(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			first, second := startSite(t, key, nil), startSite(t, key, nil)
			cfg := configForSites(t, key, first, second)
			spoil(t, first, &cfg)
			local, _ := startLocal(t, cfg)
			if _, err := local.WaitSession(testnet.Within(t, patience)); err != nil {
				t.Fatal(err)
			}
			if !second.at(local)() {
				t.Error("the second remote is not used")
			}
		})
	}
}

// TestAllRemotesRefuse: when no remote admits the client, the error is that of the best one.
func TestAllRemotesRefuse(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	first, second := startSite(t, newKey(t), nil), startSite(t, newKey(t), nil)
	cfg := configForSites(t, key, first, second)
	_, ended := startLocal(t, cfg)
	err := receive(t, ended)
	failed, ok := errors.AsType[*ConnectError](err)
	if !ok || !IsAdmissionError(err) || failed.Remote != cfg.Address {
		t.Errorf("%v, about %v", err, failed.Remote)
	}
}

// TestRefusingRemoteIsAskedAgain: a remote that refuses while the other can't be reached is used
// once it admits the client.
func TestRefusingRemoteIsAskedAgain(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	best, second := startSite(t, key, nil), startSite(t, key, nil)
	local := startWithSites(t, key, best, second)
	second.revoke(t)
	best.lose()
	until(t, "the second remote has refused", func() bool {
		return slices.ContainsFunc(local.State().Events, func(e state.Event) bool {
			return e.Kind == state.EventConnectFailed && strings.Contains(e.Reason, "admitted")
		})
	})
	identity := RemoteIdentity{Key: second.key}
	if err := second.Reload(identity, trustKeys(t, key), second.cfg.Rights); err != nil {
		t.Fatal(err)
	}
	until(t, "the second remote is used", second.at(local))
}

// TestWaitEndsWhenAllRefuse: a local that waits for remotes ends when none of them is to be waited
// for.
func TestWaitEndsWhenAllRefuse(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	first, second := startSite(t, newKey(t), nil), startSite(t, newKey(t), nil)
	cfg := configForSites(t, key, first, second)
	cfg.Wait = time.Hour
	_, ended := startLocal(t, cfg)
	if err := receive(t, ended); !IsAdmissionError(err) {
		t.Error(err)
	}
}

// TestUnknownSpareIsToldOf: when the best remote can't be reached, and the other only has to be
// confirmed, the error is about that.
func TestUnknownSpareIsToldOf(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	first, second := startSite(t, key, nil), startSite(t, key, nil)
	first.lose()
	cfg := configForSites(t, key, first, second)
	cfg.Others[0].VerifyRemote = func(protocol.Peer) error { return certs.ErrUnknownRemote }
	_, ended := startLocal(t, cfg)
	err := receive(t, ended)
	failed, ok := errors.AsType[*ConnectError](err)
	if !ok || !errors.Is(err, certs.ErrUnknownRemote) || failed.Remote != cfg.Others[0].Address {
		t.Errorf("%v, about %v", err, failed)
	}
}

// TestRetryDuringLoss: a remote that is lost while the local makes another connection to it, as for
// a reload, is not waited for any longer than else.
func TestRetryDuringLoss(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	best, second := startSite(t, key, nil), startSite(t, key, nil)
	local := startWithSites(t, key, best, second)
	conn := dial(t, local, testnet.EchoServer(t))
	echoes(t, conn)
	t.Cleanup(best.path.Freeze())
	io.WriteString(conn, "so that the silence is noticed soon")
	local.Retry()
	until(t, "the second remote is used", second.at(local))
}

// startPatient starts a local that has gone to the better of two remotes, and that waits for a lost
// one for long.
func startPatient(t *testing.T) (local *Local, best, second *awaySite) {
	t.Helper()
	key := newKey(t)
	best, second = startSite(t, key, nil), startSite(t, key, nil)
	cfg := configForSites(t, key, best, second)
	cfg.FailoverAfter = time.Hour
	local, _ = startLocal(t, cfg)
	until(t, "the best remote is used", best.at(local))
	return local, best, second
}

// TestRefusalMovesOn: a remote that revokes the client's key is not waited for.
func TestRefusalMovesOn(t *testing.T) {
	t.Parallel()
	local, best, second := startPatient(t)
	best.revoke(t)
	until(t, "the second remote is used", second.at(local))
	echoes(t, dial(t, local, testnet.EchoServer(t)))
	if resumed, lost := resumptions(local); resumed != 0 || lost != 1 {
		t.Errorf("%d resumptions and %d losses are observed, want one loss", resumed, lost)
	}
}

// TestDrainMovesOn: a remote that shuts down and takes no new session is not waited for.
func TestDrainMovesOn(t *testing.T) {
	t.Parallel()
	local, best, second := startPatient(t)
	old := dial(t, local, testnet.EchoServer(t))
	var draining sync.WaitGroup
	draining.Go(func() { best.Shutdown(testnet.Within(t, patience)) })
	until(t, "the second remote is used", second.at(local))
	echoes(t, old)
	old.Close()
	testnet.Await(t, patience, draining.Wait)
}

// TestMoveStays: a remote that asks for another session, and goes on, gets it.
func TestMoveStays(t *testing.T) {
	t.Parallel()
	local, best, second := startPatient(t)
	old := dial(t, local, testnet.EchoServer(t))
	echoes(t, old)
	first := local.connection().session
	best.MoveSessions()
	until(t, "there is another session with the best remote", func() bool {
		conn := local.connection()
		return conn != nil && conn.session != first && best.at(local)()
	})
	echoes(t, old)
	echoes(t, dial(t, local, testnet.EchoServer(t)))
	if totals := second.State().Totals; totals.Sessions > 0 {
		t.Errorf("%d sessions with the second remote", totals.Sessions)
	}
}

// TestReverseMovesAlong: a listener at the remote is at the one that new streams go to, and only
// there.
func TestReverseMovesAlong(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	allow := func(cfg *RemoteConfig) {
		var err error
		if cfg.Reverse, err = policy.ParseReverseRules([]string{"localhost"}); err != nil {
			t.Error(err)
		}
	}
	best, second := startSite(t, key, allow), startSite(t, key, allow)
	local := startWithSites(t, key, best, second)
	ln, err := local.ListenReverse(testnet.Within(t, patience), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var accepting sync.WaitGroup
	defer accepting.Wait()
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "hello")
			conn.Close()
		}
	})
	defer ln.Close()
	serves := func() bool {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return false
		}
		defer conn.Close()
		// It may be the listener of before, at a remote that is out of reach now.
		conn.SetDeadline(time.Now().Add(time.Second))
		text, _ := io.ReadAll(conn)
		return string(text) == "hello"
	}
	until(t, "the listener serves", serves)
	for _, to := range []*awaySite{second, best, second} {
		if to == second {
			best.lose()
		} else {
			best.path.SetDown(false)
		}
		until(t, "the other remote is used", to.at(local))
		until(t, "the listener is there", func() bool {
			to.mu.Lock()
			defer to.mu.Unlock()
			return len(to.binds) == 1
		})
		until(t, "the listener serves", serves)
	}
}

// TestFailoverDatagrams: datagrams don't wait for a lost remote. Those of a UDP forward go to the
// next one, though their client's address stays the same, and an association ends, so that its
// client can open another. So it is in a session that loses its carrier after new streams have left
// it; until then, datagrams stay there. Streams stay in any case.
func TestFailoverDatagrams(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	best, second := startSite(t, key, nil), startSite(t, key, nil)
	local := startWithSites(t, key, best, second)
	target := testnet.ServeUDP(t, "127.0.0.1:0",
		func(conn *net.UDPConn, _ []byte, from netip.AddrPort) {
			conn.WriteToUDPAddrPort([]byte(from.String()), from)
		})
	client := dialUDP(t, startUDPForward(t, local, target.String()))
	exit := func() string { return string(askConn(t, client, []byte("which exit?"))) }
	associated := func(a *Association) string {
		return string(askAssociation(t, a, "127.0.0.1", target.Port(), nil, target))
	}
	old := dial(t, local, testnet.EchoServer(t))
	echoes(t, old)
	first, association := exit(), associate(t, local)
	associated(association)

	lost := local.connection().session
	best.lose()
	until(t, "datagrams go to the second remote", func() bool { return exit() != first })
	isCut(t, association)
	if n := lost.Stats().Streams; n != 1 {
		t.Errorf("%d streams in the lost session, want 1", n)
	}
	meanwhile, association := exit(), associate(t, local)
	through := associated(association)

	best.path.SetDown(false)
	echoes(t, old)
	until(t, "new streams go to the best remote", best.at(local))
	if got := exit(); got != meanwhile {
		t.Errorf("datagrams have gone from %s to %s, though their session had a carrier", meanwhile, got)
	}
	if got := associated(association); got != through {
		t.Errorf("those of the association have gone from %s to %s", through, got)
	}
	second.lose()
	until(t, "datagrams go to the best remote", func() bool { return exit() != meanwhile })
	isCut(t, association)
	associated(associate(t, local))
}

// isCut checks that an association ends.
func isCut(t *testing.T, a *Association) {
	t.Helper()
	a.flow.SetReadDeadline(time.Now().Add(patience))
	var err error
	for err == nil { // answers that came late
		_, _, err = a.Receive(make([]byte, mux.MaxDatagram))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the association: %v, want a reset", err)
	}
}

// TestMoveFlowsWaits: flows stay in a retired session without a carrier as long as the current one
// has none either.
func TestMoveFlowsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retired, _ := muxPair(t)
		flow, err := retired.OpenFlowAtOnce("h:1")
		if err != nil {
			t.Fatal(err)
		}
		defer flow.Close()
		ended := endOfFlow(flow)
		stays := func(when string) {
			t.Helper()
			synctest.Wait()
			select {
			case <-ended:
				t.Fatalf("%s: the flow has ended", when)
			default:
			}
		}
		local := NewLocal(LocalConfig{})
		away, stop := context.WithCancel(t.Context())
		defer stop()
		var moving sync.WaitGroup
		move := func() { local.moveFlows(away, retired) }
		moving.Go(move)
		stays("no session")
		lost, _ := muxPair(t)
		lost.Close()
		local.set(&localConnection{session: lost}, nil)
		stays("a session without a carrier")
		stop()
		moving.Wait()
		stays("the retired session is resumed")

		away = t.Context()
		moving.Go(move)
		stays("lost again")
		current, _ := muxPair(t)
		local.set(&localConnection{session: current}, nil)
		moving.Wait()
		<-ended
	})
}

// TestFailoverUnconfirmed loses a remote that hasn't answered for streams whose clients got success
// at once. Those that have sent nothing over a carrier go on at the other remote, with what their
// clients have sent since; one that has is reset, as it may have arrived.
func TestFailoverUnconfirmed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	best, second := startSite(t, key, nil), startSite(t, key, nil)
	cfg := configForSites(t, key, best, second)
	cfg.FastOpen = FastOpenAlways
	local, _ := startLocal(t, cfg)
	until(t, "the best remote is used", best.at(local))
	greeter := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		io.WriteString(conn, "hello, ")
		io.Copy(conn, conn)
		conn.CloseWrite()
	})
	forward := startForward(t, local, greeter)
	second.lose() // for now
	t.Cleanup(best.path.Freeze())
	join := func() *net.TCPConn { return testnet.Dial(t, forward, patience) }
	silent, late, sent := join(), join(), join()
	io.WriteString(sent, "sent")
	lost := local.connection().session
	until(t, "the streams are open, and one has sent its data", func() bool {
		in := lost.Inspect(10)
		return len(in.Streams) == 3 && in.Payload.Sent == 4
	})
	best.lose()
	until(t, "the loss is noticed", func() bool { return lost.Stats().Away })
	io.WriteString(late, "late")
	until(t, "what came late is queued", func() bool { return lost.Stats().Queued > 0 })
	second.path.SetDown(false)

	if _, err := sent.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the one that has sent data: %v", err)
	}
	io.WriteString(silent, "now")
	for conn, want := range map[*net.TCPConn]string{silent: "hello, now", late: "hello, late"} {
		conn.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if !second.at(local)() || lost.Stats().Streams != 0 {
		t.Errorf("%d streams in the lost session", lost.Stats().Streams)
	}
}
