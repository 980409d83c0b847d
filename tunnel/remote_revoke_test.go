package tunnel

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// A key that is removed while its client's handshake is in progress does not get in.
func TestReloadDuringHandshake(t *testing.T) {
	removed, kept := newKey(t), newKey(t)
	remote := startShares(t, trustLines(t, removed.Public().String()+" allow=192.0.2.1:1",
		kept.Public().String()), nil)
	cfg := remote.localConfig(t, removed)
	cfg.VerifyRemote = func(peer protocol.Peer) error {
		if err := remote.Reload(
			RemoteIdentity{Key: remote.key}, trustKeys(t, kept), policy.Rights{},
		); err != nil {
			t.Error(err)
		}
		return remote.pin(peer)
	}
	if err := remote.neverUp(cfg); !IsAdmissionError(err) {
		t.Errorf("the removed client: %v", err)
	}
}

// A key without a line has no rights, whatever others have.
func TestNoLineNoRights(t *testing.T) {
	everything, err := policy.ParseReverseRules([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	access, err := newRemoteAccess(
		RemoteIdentity{Key: newKey(t)}, trustKeys(t, newKey(t)), policy.Rights{Reverse: everything},
	)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newKey(t).Public()
	if access.rulesFor(stranger) != (noRights{}) || access.reverseFor(stranger) != nil {
		t.Error("a key without a line has rights")
	}
}

// stuckCarrier writes the hello, and then nothing until it is closed.
type stuckCarrier struct {
	*pipeCarrier
	wrote bool
}

func (c *stuckCarrier) WriteRecords(records ...[]byte) error {
	if c.wrote {
		<-c.closed
		return net.ErrClosed
	}
	c.wrote = true
	return c.pipeCarrier.WriteRecords(records...)
}

// stuckSession returns the remote's end of a session whose client reads nothing.
func stuckSession(t *testing.T) *mux.Session {
	t.Helper()
	x, y, closed := make(chan []byte, 64), make(chan []byte, 64), make(chan struct{})
	end := sync.OnceFunc(func() { close(closed) })
	cfg := mux.Config{Keepalive: -1}
	var near *mux.Session
	var starting sync.WaitGroup
	starting.Go(func() {
		near, _ = mux.NewClient(context.Background(), &pipeCarrier{x, y, closed, end}, cfg)
	})
	far, err := mux.NewServer(context.Background(),
		&stuckCarrier{pipeCarrier: &pipeCarrier{y, x, closed, end}}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	starting.Wait()
	t.Cleanup(func() {
		end()
		near.Close()
		far.Close()
	})
	return far
}

// A reload revokes all sessions of a key at its beginning, even if their client does not read.
func TestReloadRevokesAtOnce(t *testing.T) {
	removed, kept := newKey(t), newKey(t)
	before, after := trustKeys(t, removed, kept), trustKeys(t, kept)
	identity := RemoteIdentity{Key: newKey(t)}
	synctest.Test(t, func(t *testing.T) {
		remote, err := NewRemote(RemoteConfig{Identity: identity, Trust: before})
		if err != nil {
			t.Fatal(err)
		}
		defer remote.stop()
		var served []*remoteSession
		for range 8 {
			session := stuckSession(t)
			peer := protocol.Peer{Version: 1, Key: removed.Public()}
			if err := remote.addSession(session, peer, netip.Addr{}, ""); err != nil {
				t.Fatal(err)
			}
			served = append(served, &remoteSession{Session: session, remote: remote,
				client: removed.Public()})
		}
		began := time.Now()
		var reloading sync.WaitGroup
		reloading.Go(func() {
			if err := remote.Reload(identity, after, policy.Rights{}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for _, s := range served {
			if s.Err() != nil {
				t.Error("ended before its client could be told")
			}
			if s.rules() != (noRights{}) {
				t.Error("a revoked session has rights")
			}
		}
		reloading.Wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the reload took %v", took)
		}
		for _, s := range served {
			if s.Err() == nil {
				t.Error("a revoked session remains")
			}
		}
	})
}

// certified returns a CA, and a certificate of it that expires after a time.
func certified(t *testing.T, key *certs.KeyPair, life time.Duration) (ca, cert *certs.Certificate) {
	t.Helper()
	now := time.Now()
	issuer, err := certs.NewCA(bytes.NewReader(randomBytes(t, 1024)), "test CA", now,
		now.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cert, err = issuer.Issue(bytes.NewReader(randomBytes(t, 1024)), now, certs.Request{
		PublicKey: key.Public(), Names: []string{"a.test"}, Expires: now.Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	return issuer.Certificate(), cert
}

// A session ends when the client's certificate expires, and soon after the clock was set to a later
// time. It stays when it no longer rests on the certificate.
func TestClientCertificateExpires(t *testing.T) {
	for _, tt := range []struct {
		name       string
		jump, want time.Duration
		required   bool
	}{
		{"in time", 0, 2 * time.Hour, true},
		{"the clock was set", 3 * time.Hour, expiryCheck, true},
		{"not required", 0, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			key := newKey(t)
			ca, cert := certified(t, key, 2*time.Hour)
			identity := RemoteIdentity{Key: newKey(t)}
			trust := RemoteTrust{RequireCert: tt.required, CA: ca, Anyone: !tt.required}
			remote, err := NewRemote(RemoteConfig{Identity: identity, Trust: trust})
			if err != nil {
				t.Fatal(err)
			}
			defer remote.stop()
			_, session := muxPair(t)
			peer := protocol.Peer{Version: 2, Key: key.Public(), Cert: cert}
			if err := remote.addSession(session, peer, netip.Addr{}, ""); err != nil {
				t.Fatal(err)
			}
			defer remote.removeSession(session)
			began := time.Now()
			remote.mu.Lock()
			remote.now = func() time.Time { return time.Now().Add(tt.jump) }
			remote.mu.Unlock()
			select {
			case <-session.Done():
			case <-time.After(6 * time.Hour):
			}
			if took := time.Since(began); (session.Err() != nil) != tt.required ||
				(tt.required && took.Round(time.Second) != tt.want) {
				t.Errorf("%s: %v after %v, want %v", tt.name, session.Err(), took, tt.want)
			}
		})
	}
}

// A local ends its session when the remote's certificate expires.
func TestRemoteCertificateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t)
		_, cert := certified(t, key, time.Hour)
		session, _ := muxPair(t)
		conn := &localConnection{
			session: session, state: protocol.State{Peer: protocol.Peer{Cert: cert}},
		}
		began := time.Now()
		endAtExpiry(t.Context(), conn, time.Now)
		<-session.Done()
		if took := time.Since(began); took.Round(time.Second) != time.Hour {
			t.Errorf("the session ended after %v", took)
		}
		session, _ = muxPair(t)
		conn.session = session
		stopped, stop := context.WithCancel(t.Context())
		stop()
		endAtExpiry(stopped, conn, func() time.Time { return began })
		if session.Err() != nil {
			t.Error("a session ended before its time")
		}
	})
}
