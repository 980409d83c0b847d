package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]struct{ url, name string }{
		"ws://example.org:8080/":      {"ws://example.org:8080/", "example.org:8080"},
		"ws://example.org":            {"ws://example.org/", "example.org:80"},
		"wss://example.org/tunnel":    {"wss://example.org/tunnel", "example.org:443/tunnel"},
		"https://example.org/":        {"wss://example.org/", "example.org:443"},
		"http://[2001:db8::1]:8080/x": {"ws://[2001:db8::1]:8080/x", "[2001:db8::1]:8080/x"},
		"example.org:8080":            {"ws://example.org:8080/", "example.org:8080"},
		"127.0.0.1:8080/a?b=c":        {"ws://127.0.0.1:8080/a?b=c", "127.0.0.1:8080/a"},
	} {
		address, err := ParseAddress(text)
		if err != nil || address.String() != want.url || address.Name() != want.name {
			t.Errorf("%s: %s, %s, %v", text, address, address.Name(), err)
		}
	}
	for _, text := range []string{"", "ftp://example.org/", "ws://", "ws://user:secret@example.org/", "ws://example.org/#x", "ws://exa mple/"} {
		if address, err := ParseAddress(text); err == nil {
			t.Errorf("%q was taken for %s", text, address)
		}
	}
}

func TestDialCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want mux.Code
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, mux.CodeRefused},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, mux.CodeHostUnreach},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, mux.CodeNetUnreach},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, mux.CodeTimeout},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, mux.CodeNameNotFound},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, mux.CodeTimeout},
		{context.DeadlineExceeded, mux.CodeTimeout},
		{policy.ErrBadTarget, mux.CodeBadTarget},
		{policy.ErrNotAllowed, mux.CodeNotAllowed},
		{errors.New("something else"), mux.CodeDialFailed},
	} {
		if got := dialCode(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}

func TestBadTargets(t *testing.T) {
	local, _ := startTunnel(t)
	for _, target := range []string{"", "nohost", ":80", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:http"} {
		_, err := local.DialContext(within(t, 10*time.Second), "tcp", target)
		var refused *mux.OpenError
		if !errors.As(err, &refused) || refused.Code != mux.CodeBadTarget {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := local.DialContext(within(t, time.Second), "udp", "127.0.0.1:53"); err == nil {
		t.Error("a network that is not served was dialed")
	}
}

// TestThousandStreams: half of 1,000 streams at once are never read; the others all finish.
func TestThousandStreams(t *testing.T) {
	const n, size = 1000, 256 << 10
	local, _ := startTunnel(t)
	content := randomBytes(t, size)
	target := serveTCP(t, func(conn *net.TCPConn) {
		conn.Write(content)
		conn.CloseWrite()
		io.Copy(io.Discard, conn)
	})
	var unread []net.Conn
	var readers sync.WaitGroup
	for i := range n {
		conn := dial(t, local, target)
		if i%2 == 0 {
			unread = append(unread, conn)
			continue
		}
		readers.Go(func() {
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			conn.Close()
		})
	}
	readers.Wait()
	for _, conn := range unread {
		conn.Close()
	}
}

func TestUnknownClientIsRefused(t *testing.T) {
	remote := startRemote(t, trustKeys(t, newKey(t)), nil)
	local := NewLocal(remote.localConfig(t, newKey(t)))
	err := local.Run(context.Background())
	if !IsAdmissionError(err) || IsIdentityError(err) {
		t.Fatalf("run: %v", err)
	}
	if _, err := local.DialContext(context.Background(), "tcp", "127.0.0.1:1"); !IsAdmissionError(err) {
		t.Fatalf("dial: %v", err)
	}
}

func TestWrongRemoteIsRefused(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)
	cfg.VerifyRemote = func(protocol.Peer) error { return certs.ErrUnknownRemote }
	err := NewLocal(cfg).Run(context.Background())
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
	if err := NewLocal(wrongPath).Run(context.Background()); !errors.As(err, &status) || status.Code != http.StatusNotFound {
		t.Errorf("wrong path: %v", err)
	}

	remote.server.Close()
	var connect *ConnectError
	err = NewLocal(cfg).Run(context.Background())
	if !errors.As(err, &connect) || connect.Step != StepTCP || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no listener: %v", err)
	}
}

func TestSteps(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)
	var steps []Step
	cfg.OnProgress = func(p Progress) { steps = append(steps, p.Step) }
	state, roundTrip, err := Connect(context.Background(), cfg)
	if err != nil || roundTrip <= 0 || !state.Peer.Key.Equal(remote.key.Public()) {
		t.Fatalf("%v, %v", roundTrip, err)
	}
	if got := fmt.Sprint(steps); got != "[tcp upgrade handshake session]" {
		t.Errorf("steps: %s", got)
	}
}

// TestReconnect: a lost session ends its streams with an error, and a new one serves new streams.
func TestReconnect(t *testing.T) {
	local, remote := startTunnel(t)
	target := serveTCP(t, echo)
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

func TestReloadEndsSessionsOfRemovedKeys(t *testing.T) {
	removed, kept := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, removed, kept), nil)
	_, removedEnded := startLocal(t, remote.localConfig(t, removed))
	local, _ := startLocal(t, remote.localConfig(t, kept))
	conn := dial(t, local, serveTCP(t, echo))
	for remote.Sessions() < 2 {
		if err := within(t, 10*time.Second).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := remote.Reload(Identity{Key: remote.key}, trustKeys(t, kept), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-removedEnded; !IsAdmissionError(err) {
		t.Fatalf("the removed client: %v", err)
	}
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatalf("the other client: %v", err)
	}
	if err := remote.Reload(Identity{Key: remote.key}, Trust{}, nil, nil); !errors.Is(err, ErrNobodyAdmitted) {
		t.Fatalf("a trust that admits nobody: %v", err)
	}
}

func TestSessionLimit(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.MaxSessions = 1 })
	cfg := remote.localConfig(t, key)
	local, _ := startLocal(t, cfg)
	dial(t, local, serveTCP(t, echo)) // the session is counted by now
	var status *StatusError
	if err := NewLocal(cfg).Run(context.Background()); !errors.As(err, &status) || status.Code != http.StatusServiceUnavailable {
		t.Fatalf("a session too many: %v", err)
	}
}

func TestDrainLetsStreamsFinish(t *testing.T) {
	local, remote := startTunnel(t)
	content := randomBytes(t, 4<<20)
	release := make(chan struct{})
	target := serveTCP(t, func(conn *net.TCPConn) {
		conn.Write(content[:1<<20])
		<-release
		conn.Write(content[1<<20:])
	})
	conn := dial(t, local, target)
	if _, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var draining sync.WaitGroup
	draining.Go(func() { remote.Shutdown(within(t, 30*time.Second)) })
	for { // until the local has heard of it
		further, err := local.DialContext(within(t, 10*time.Second), "tcp", target)
		var refused *mux.OpenError
		if errors.As(err, &refused) && refused.Code == mux.CodeDraining {
			break
		}
		if err == nil {
			further.Close()
		}
	}
	close(release)
	rest, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(rest, content[1<<20:]) {
		t.Fatalf("%d bytes, %v", len(rest), err)
	}
	conn.Close()
	draining.Wait()
}

func TestVersion2(t *testing.T) {
	now := time.Now()
	ca, err := certs.NewCA(bytes.NewReader(randomBytes(t, 1024)), "test CA", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	issue := func(key *certs.KeyPair) *certs.Certificate {
		cert, err := ca.Issue(bytes.NewReader(randomBytes(t, 1024)), now, certs.Request{
			PublicKey: key.Public(), Names: []string{"localhost"}, IPs: []string{"127.0.0.1"}, Expires: now.Add(time.Minute),
		})
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	key := newKey(t)
	trust := Trust{RequireCert: true, CA: ca.Certificate()}
	remote := startRemote(t, trust, func(cfg *RemoteConfig) { cfg.Identity.Cert = issue(cfg.Identity.Key) })
	cfg := remote.localConfig(t, key)
	if err := NewLocal(cfg).Run(context.Background()); !IsAdmissionError(err) {
		t.Errorf("version 1 where a certificate is required: %v", err)
	}
	cfg.CA = ca.Certificate()
	if err := NewLocal(cfg).Run(context.Background()); !IsAdmissionError(err) {
		t.Errorf("no certificate where one is required: %v", err)
	}
	cfg.Cert = issue(newKey(t))
	if err := NewLocal(cfg).Run(context.Background()); err == nil {
		t.Error("a certificate of another key was admitted")
	}
	cfg.Cert = issue(key)
	state, _, err := Connect(context.Background(), cfg)
	if err != nil || state.Version != 2 {
		t.Fatalf("version %d, %v", state.Version, err)
	}
}
