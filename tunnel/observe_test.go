package tunnel

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// recorder is an Observer that remembers what it learns.
type recorder struct {
	mu         sync.Mutex
	handshakes []Handshake
	resumed    int
	lost       int
	dials      map[mux.Result]int
}

func newRecorder() *recorder { return &recorder{dials: make(map[mux.Result]int)} }

func (r *recorder) Handshake(h Handshake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handshakes = append(r.handshakes, h)
}

func (r *recorder) Resume(resumed bool, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if resumed {
		r.resumed++
	} else {
		r.lost++
	}
}

func (*recorder) Move(MoveReason) {}

func (r *recorder) Dial(result mux.Result, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials[result]++
}

// results returns the results of handshakes, and one of those that ended with a result.
func (r *recorder) results() (n map[HandshakeResult]int, last map[HandshakeResult]Handshake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, last = make(map[HandshakeResult]int), make(map[HandshakeResult]Handshake)
	for _, h := range r.handshakes {
		n[h.Result]++
		last[h.Result] = h
	}
	return n, last
}

// TestRead checks that both nodes count sessions, streams and bytes, also those of sessions that
// have ended, and that each observes who was admitted and which targets were reached.
func TestRead(t *testing.T) {
	t.Parallel()
	key, stranger := newKey(t), newKey(t)
	near, far, counts := newRecorder(), newRecorder(), new(bounds.Counts)
	rules := mustParse(t, nil, []string{"127.0.0.66"})
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.Observer, cfg.Bounds = far, counts
		cfg.Rights = policy.Rights{Rules: rules, Share: policy.Share{Streams: 1}}
	})
	cfg := remote.localConfig(t, key)
	cfg.Observer, cfg.FastOpen = near, FastOpenNever
	local, _ := startLocal(t, cfg)
	if _, err := local.WaitSession(testnet.Within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if err := local.Ready(); err != nil {
		t.Errorf("the local isn't ready: %v", err)
	}
	refused(t, local, "127.0.0.66:1")
	target := testnet.ServeTCP(t, func(conn *net.TCPConn) { io.Copy(conn, conn) })
	until(t, "the refused stream has left its place", func() bool {
		return remote.Read().Open[mux.CategoryTCP] == 0
	})
	conn := dial(t, local, target)
	echoes(t, conn)
	if _, err := local.DialContext(testnet.Within(t, patience), "tcp", target); openCode(err) !=
		mux.CodeTooManyStreams || counts.Of(bounds.ClientStreams) != 1 {
		t.Errorf("beyond the share: %v, %d counted", err, counts.Of(bounds.ClientStreams))
	}
	for name, r := range map[string]Reading{"local": local.Read(), "remote": remote.Read()} {
		if r.Carried != 1 || r.Away != 0 || r.Sessions != 1 || r.Open[mux.CategoryTCP] != 1 ||
			r.Memory.Limit == 0 {
			t.Errorf("%s: while there is a stream: %+v", name, r)
		}
	}
	if m := remote.Read().Memory; m.Streams < streamMemory ||
		m.Streams+m.Other+m.Handshake > remote.session.Memory.Held() {
		t.Errorf("%+v, of %d bytes that are held", m, remote.session.Memory.Held())
	}
	conn.(*mux.Stream).CloseWrite()
	io.ReadAll(conn)
	conn.Close()
	until(t, "both know that the stream has ended", func() bool {
		return local.Read().Ended[mux.CategoryTCP][mux.ResultOK] == 1 &&
			remote.Read().Ended[mux.CategoryTCP][mux.ResultOK] == 1
	})

	strange := remote.localConfig(t, stranger)
	if _, _, err := Connect(testnet.Within(t, patience), strange); !IsAdmissionError(err) {
		t.Errorf("a stranger: %v", err)
	}
	local.Retry() // which resumes the session
	until(t, "both know that the session was resumed", func() bool {
		return local.Read().Resumptions == 1 && remote.Read().Resumptions == 1
	})
	local.mu.Lock()
	session := local.current.session
	local.mu.Unlock()
	session.Close() // the local makes another one
	until(t, "there is another session, and the first has ended", func() bool {
		return local.Read().Sessions == 2 && remote.Read().Sessions == 2 && remote.Read().Carried == 1
	})
	for name, r := range map[string]Reading{"local": local.Read(), "remote": remote.Read()} {
		tcp := r.Ended[mux.CategoryTCP]
		if r.Carried != 1 || tcp[mux.ResultOK] != 1 || tcp[mux.ResultDenied] != 1 ||
			tcp[mux.ResultRefused] != 1 || r.Payload.Sent != 4 || r.Payload.Received != 4 {
			t.Errorf("%s: at the end: %+v", name, r)
		}
	}
	atRemote, last := far.results()
	if atRemote[HandshakeAdmitted] != 3 || atRemote[HandshakeRefused] != 1 {
		t.Errorf("handshakes at the remote: %v", atRemote)
	}
	if h := last[HandshakeAdmitted]; h.Version == 0 || h.Suite == "" || h.Took <= 0 {
		t.Errorf("who was admitted: %+v", h)
	}
	if atLocal, _ := near.results(); atLocal[HandshakeAdmitted] != 3 {
		t.Errorf("handshakes at the local: %v", atLocal)
	}
	far.mu.Lock()
	defer far.mu.Unlock()
	if far.dials[mux.ResultOK] != 1 || far.dials[mux.ResultDenied] != 1 || far.resumed != 1 {
		t.Errorf("dials: %v; %d resumptions", far.dials, far.resumed)
	}
}

// TestReady checks that a local without a session and a remote that drains say why they aren't
// ready.
func TestReady(t *testing.T) {
	t.Parallel()
	remote := startRemote(t, trustKeys(t, newKey(t)), nil)
	if err := remote.Ready(); err != nil {
		t.Errorf("the remote isn't ready: %v", err)
	}
	if err := NewLocal(remote.localConfig(t, newKey(t))).Ready(); err != ErrNoSession {
		t.Errorf("a local that isn't connected: %v", err)
	}
	remote.Shutdown(testnet.Within(t, patience))
	if err := remote.Ready(); err == nil {
		t.Error("a remote that has shut down is ready")
	}
}
