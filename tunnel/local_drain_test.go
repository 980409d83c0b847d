package tunnel

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// stickyBalancer passes requests on to the node that has the session, by sessionHeader, and others
// to the node for new ones.
type stickyBalancer struct {
	*httptest.Server
	t *testing.T

	mu    sync.Mutex // guards the rest
	node  *url.URL   // for new sessions
	nodes map[string]*url.URL
}

func startStickyBalancer(t *testing.T) *stickyBalancer {
	b := &stickyBalancer{t: t, nodes: map[string]*url.URL{}}
	b.Server = httptest.NewServer(&httputil.ReverseProxy{Rewrite: b.rewrite})
	t.Cleanup(b.Server.Close)
	return b
}

func (b *stickyBalancer) rewrite(r *httputil.ProxyRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := routeNameOf(r.In)
	if name == "" {
		b.t.Error("a request without the session's name")
	}
	if b.nodes[name] == nil {
		b.nodes[name] = b.node
	}
	r.SetURL(b.nodes[name])
}

// lead makes new sessions go to a remote.
func (b *stickyBalancer) lead(remote *testRemote) {
	b.t.Helper()
	to, err := url.Parse(remote.server.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.node = to
}

// startBehindBalancer starts a local whose session is at the first of two remotes. New sessions go
// to the first until the balancer is told otherwise.
func startBehindBalancer(
	t *testing.T,
) (b *stickyBalancer, local *Local, first, second *testRemote) {
	t.Helper()
	return startReverseBehindBalancer(t, "", "", zerolog.Nop())
}

// startReverseBehindBalancer is startBehindBalancer with remotes that permit their clients to bind
// addresses.
func startReverseBehindBalancer(
	t *testing.T, rules, secondRules string, log zerolog.Logger,
) (b *stickyBalancer, local *Local, first, second *testRemote) {
	t.Helper()
	key := newKey(t)
	permit := func(cfg *RemoteConfig, rules string) {
		if rules == "" {
			return
		}
		var err error
		if cfg.Reverse, err = policy.ParseReverseRules([]string{rules}); err != nil {
			t.Fatal(err)
		}
	}
	first = startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { permit(cfg, rules) })
	second = startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.Identity.Key = first.key
		permit(cfg, secondRules)
	})
	b = startStickyBalancer(t)
	b.lead(first)
	cfg := first.localConfig(t, key)
	cfg.Log = log
	var err error
	if cfg.Address, err = ParseAddress(b.URL); err != nil {
		t.Fatal(err)
	}
	local, _ = startLocal(t, cfg)
	return b, local, first, second
}

// A remote stops behind a balancer that has another: new streams go there at once, and old ones go
// on where they are, also over another carrier, until they end. Then the remote stops.
func TestMakeBeforeBreak(t *testing.T) {
	b, local, first, second := startBehindBalancer(t)
	echo := testnet.EchoServer(t)
	old := dial(t, local, echo)
	echoes(t, old)

	b.lead(second)
	var draining sync.WaitGroup
	draining.Go(func() { first.Shutdown(testnet.Within(t, patience)) })
	until(t, "there is another session", func() bool { return second.count() == 1 })
	echoes(t, dial(t, local, echo))
	if second.count() != 1 || first.count() != 1 {
		t.Fatalf("%d and %d sessions", first.count(), second.count())
	}
	for n := range uint64(3) {
		retired := local.retiredConnection(t)
		retired.session.DropCarrier(retired.carrier, errors.New("dropped by the test"))
		echoes(t, old)
		until(t, "the carrier is known", func() bool {
			return local.State().Totals.Resumptions == n+1 && local.retiredConnection(t) != retired
		})
	}
	if n := len(local.State().Sessions); n != 2 {
		t.Errorf("%d sessions are shown", n)
	}
	old.Close()
	testnet.Await(t, patience, draining.Wait)
	until(t, "the old session is forgotten", func() bool { return len(local.connections()) == 1 })
	if totals := local.State().Totals; totals.Sessions != 2 || totals.Resumptions != 3 {
		t.Errorf("%+v", totals)
	}
	echoes(t, dial(t, local, echo))
}

// The address of -R moves along: the remote that drains frees it at once, and the other one binds
// it, or the log has the reason why not. A connection that was accepted goes on where it is.
func TestDrainMovesReverse(t *testing.T) {
	for _, test := range []struct {
		name, rules string
		taken       bool   // somebody else binds the address in between
		refusal     string // "" for none
	}{
		{"bound", "localhost", false, ""},
		{"not allowed", "192.0.2.1", false, "not allowed"},
		{"in use", "localhost", true, "address in use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &lockedBuffer{}
			b, local, first, second := startReverseBehindBalancer(t, "localhost", test.rules,
				zerolog.New(log))
			address := "127.0.0.1:" + testnet.FreePort(t)
			serveReverseTo(t, local, address, testnet.EchoServer(t))
			old := dialPlain(t, address)
			echoes(t, old)

			if !test.taken {
				b.lead(second)
			}
			var draining sync.WaitGroup
			draining.Go(func() { first.Shutdown(testnet.Within(t, patience)) })
			if test.taken {
				var other net.Listener
				until(t, "the address is free", func() bool {
					var err error
					other, err = net.Listen("tcp", address)
					return err == nil
				})
				defer other.Close()
				b.lead(second)
			}
			until(t, "there is another session", func() bool { return second.count() == 1 })
			if test.refusal == "" {
				until(t, "the address is bound at the other remote", func() bool {
					second.mu.Lock()
					defer second.mu.Unlock()
					return len(second.binds) == 1
				})
				echoes(t, dialPlain(t, address))
			} else {
				until(t, "the log has the reason", func() bool {
					return strings.Contains(log.String(), test.refusal) &&
						strings.Contains(log.String(), "can't listen at the remote")
				})
			}
			echoes(t, old)
			old.Close()
			testnet.Await(t, patience, draining.Wait)
		})
	}
}

// retiredConnection returns the connection of the one session that is kept while its remote drains.
func (l *Local) retiredConnection(t *testing.T) *localConnection {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for kept := range l.retired {
		return kept.conn
	}
	t.Fatal("no retired session")
	return nil
}

// A retired session ends when the certificate expires that the remote presented for the carrier of
// now, whatever it presented for those before.
func TestRetiredCertificateRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ca, err := certs.NewCA(rand.Reader, "test CA", began, began.Add(24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		var key *certs.KeyPair // of the remote
		issue := func(life time.Duration) *certs.Certificate {
			cert, err := ca.Issue(rand.Reader, began, certs.Request{PublicKey: key.Public(),
				IPs: []string{"203.0.113.1"}, Expires: began.Add(life)})
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		w := startMoveWorld(t, 0, func(cfg *RemoteConfig) {
			key = cfg.Identity.Key
			cfg.Identity.Cert = issue(time.Hour)
		})
		defer w.stop()
		address, err := ParseAddress("ws://" + simRemoteAddress + "/")
		if err != nil {
			t.Fatal(err)
		}
		local := NewLocal(LocalConfig{Address: address, Key: w.key, CA: ca.Certificate()})
		local.remotes[0].dialAddress = w.dialRemote
		conn, err := local.attempts(local.remotes[0]).connect(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := conn.session.Open(t.Context(),
			mux.Target{Kind: mux.StreamTCP, Address: simTargetAddress})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		w.echo(stream)
		local.retire(t.Context(), conn)

		identity := RemoteIdentity{Key: key, Cert: issue(2 * time.Hour)}
		if err := w.remote.Reload(identity, trustKeys(t, w.key), w.rights()); err != nil {
			t.Fatal(err)
		}
		w.carriers.cut(0, 1)
		time.Sleep(time.Hour + time.Second) // synctest
		w.echo(stream)
		select {
		case <-conn.session.Done():
		case <-time.After(2 * time.Hour):
			t.Error("the session outlives the certificate")
			conn.session.Close()
		}
		if after := time.Since(began).Round(time.Minute); after != 2*time.Hour {
			t.Errorf("the session ended after %v: %v", after, conn.session.Err())
		}
		local.retiring.Wait()
	})
}

// New streams that are opened all the time while a remote stops all succeed.
func TestDrainCostsNoStream(t *testing.T) {
	b, local, first, second := startBehindBalancer(t)
	echo := testnet.EchoServer(t)
	known := dial(t, local, echo) // the target is known from now on
	echoes(t, known)
	known.Close()
	b.lead(second)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var streams sync.WaitGroup
	for range 8 {
		streams.Go(func() {
			for ctx.Err() == nil {
				conn, err := local.DialContext(testnet.Within(t, patience), "tcp", echo)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				conn.SetDeadline(time.Now().Add(patience))
				if err := testnet.CheckEcho(conn, "ping"); err != nil {
					t.Errorf("echo: %v", err)
				}
				conn.Close()
			}
		})
	}
	first.Shutdown(testnet.Within(t, patience))
	until(t, "there is another session", func() bool { return second.streams() > 0 })
	stop()
	streams.Wait()
}

// Streams that a local cuts short when it ends are counted, and so is one that waits for another
// session in vain.
func TestBoundsOfLocalDrains(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg, counts := remote.localConfig(t, key), &bounds.Counts{}
	cfg.Bounds = counts
	local := NewLocal(cfg)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { local.Run(ctx) })
	echoes(t, dial(t, local, testnet.EchoServer(t)))
	err := local.awaitOther(t.Context(), local.connection().session, time.Now())
	if counts.Note(err); counts.Of(bounds.NoSessionWait) != 1 || !errors.Is(err, ErrNoSession) {
		t.Errorf("a wait for another session ends with %v, which counts %d refusals",
			err, counts.Of(bounds.NoSessionWait))
	}
	local.Abort() // a drain ends at once
	stop()
	testnet.Await(t, patience, running.Wait)
	if own, other := counts.Of(bounds.LocalDrain), counts.Of(bounds.Drain); own != 1 || other != 0 {
		t.Errorf("%d drains of the local are counted, and %d of the remote", own, other)
	}
}
