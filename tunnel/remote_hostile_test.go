package tunnel

import (
	"context"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/internal/testnet/hostile"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// hostilePeer is an admitted client, or a remote, that sends what it likes.
type hostilePeer struct {
	*hostile.Peer
	t      testing.TB
	remote *testRemote // of a client
}

// startHostile connects a hostile client to a remote that admits its key.
func startHostile(
	t testing.TB, remote *testRemote, key *certs.KeyPair, cfg hostile.Config,
) *hostilePeer {
	t.Helper()
	url := "ws" + strings.TrimPrefix(remote.server.URL, "http")
	peer, err := hostile.Dial(context.Background(), url, key, remote.pin, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	return &hostilePeer{peer, t, remote}
}

// startHostileRemote starts a remote for which attack is called with each session, and returns its
// address. The session ends when attack returns.
func startHostileRemote(t testing.TB, attack func(h *hostile.Peer)) Address {
	t.Helper()
	handler := hostile.Handler(newKey(t), hostile.Config{FirstCredit: 1 << 20}, attack)
	var serving sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		testnet.Await(t, patience, serving.Wait)
	})
	address, err := ParseAddress(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// refused returns how many streams were refused.
func (h *hostilePeer) refused() int64 { return h.Frames(hostile.KindRefused) }

// expectEnd checks that the remote ends the session with a code.
func (h *hostilePeer) expectEnd(what string, want mux.Code) {
	h.t.Helper()
	receive(h.t, h.Ended())
	if got := h.Code(); got != want {
		h.t.Errorf("%s: the session ended with %v, want %v", what, got, want)
	}
}

// expectAlive checks that the session answers a ping that follows all that was sent.
func (h *hostilePeer) expectAlive(what string) {
	h.t.Helper()
	const token = math.MaxUint64
	h.Send(hostile.Number(hostile.KindPing, 0, token))
	until(h.t, what+": a pong", func() bool { return h.Pong() == token })
}

// streams returns how many streams all sessions of a remote have.
func (r *testRemote) streams() (n int) {
	r.mu.Lock()
	sessions := slices.Collect(maps.Keys(r.sessions))
	r.mu.Unlock()
	for _, session := range sessions {
		n += session.Stats().Streams
	}
	return n
}

// bystander is another client of the remote, whose stream echoes all the time.
type bystander struct {
	t      testing.TB
	rounds atomic.Int64
}

func startBystander(t testing.TB, remote *testRemote, key *certs.KeyPair) *bystander {
	t.Helper()
	local, _ := startLocal(t, remote.localConfig(t, key))
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, local, testnet.EchoServer(t))
	conn.SetDeadline(time.Time{})
	b := &bystander{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	var echoing sync.WaitGroup
	echoing.Go(func() {
		for ctx.Err() == nil {
			conn.SetDeadline(time.Now().Add(patience))
			if err := testnet.CheckEcho(conn, "ping"); err != nil {
				t.Errorf("another client: %v", err)
				return
			}
			b.rounds.Add(1)
		}
	})
	t.Cleanup(func() {
		cancel()
		testnet.Await(t, patience, echoing.Wait)
	})
	return b
}

// expectProgress waits until some more has been echoed.
func (b *bystander) expectProgress() {
	b.t.Helper()
	before := b.rounds.Load()
	until(b.t, "another client's echo", func() bool { return b.rounds.Load() > before+3 })
}

// heapPeak observes the live heap, as garbage collections find it, until it is stopped.
type heapPeak struct {
	before, most uint64
	stop         context.CancelFunc
	watching     sync.WaitGroup
}

func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func watchHeap() *heapPeak {
	runtime.GC()
	ctx, cancel := context.WithCancel(context.Background())
	p := &heapPeak{before: liveHeap(), stop: cancel}
	p.watching.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-ticker.C:
				p.most = max(p.most, liveHeap())
			}
		}
	})
	return p
}

// growth returns by how many bytes the live heap has grown at most.
func (p *heapPeak) growth() int64 {
	p.stop()
	p.watching.Wait()
	runtime.GC()
	return int64(max(p.most, liveHeap())) - int64(p.before)
}

// hostileHeap is how much the heap of a process that holds both ends may grow while one client does
// its worst: what one session may hold, and twice as much again for the test's own part.
const hostileHeap = 96 << 20

// talker is a target that sends without end.
func talker(t testing.TB) string {
	chunk := make([]byte, 64<<10)
	return testnet.ServeTCP(t, func(conn *net.TCPConn) {
		for {
			if _, err := conn.Write(chunk); err != nil {
				return
			}
		}
	})
}

// Whatever an admitted client sends, the remote's memory stays bounded, another client goes on, and
// the session ends with an error exactly when the client has broken the rules of the format.
func TestHostileClient(t *testing.T) {
	const million = 1_000_000
	endless, echo := talker(t), testnet.EchoServer(t)
	for _, c := range []struct {
		name   string
		cfg    hostile.Config
		attack func(t *testing.T, h *hostilePeer)
	}{
		{"opens as fast as they are refused", hostile.Config{Acks: true},
			func(t *testing.T, h *hostilePeer) {
				const all, some = 50_000, 5_000 // twice as many are open at most, fewer than may be
				for first := uint32(0); first < all; first += some {
					h.Flood(some, func(n uint32) []byte { return hostile.Open(2*(first+n)+1, 9, "") })
					until(t, "refusals", func() bool { return h.refused() >= int64(first) })
				}
				until(t, "all refusals", func() bool { return h.refused() == all })
				h.expectAlive("opens")
			}},
		{"a million opens that are not acknowledged", hostile.Config{},
			func(t *testing.T, h *hostilePeer) {
				h.Flood(million, func(n uint32) []byte { return hostile.Open(2*n+1, 9, "") })
				h.expectEnd("opens", mux.CodeProtocol)
			}},
		{"a million opens whose answers are not read", hostile.Config{},
			func(t *testing.T, h *hostilePeer) {
				h.StopReading()
				h.Send(hostile.Number(hostile.KindPing, 0, 1))
				<-h.Ended()
				h.Flood(2*million, func(n uint32) []byte { return hostile.Open(2*n+1, 9, "") })
				if h.Send(hostile.Number(hostile.KindPing, 0, 2)) {
					h.t.Error("the session goes on")
				}
			}},
		{"windows of 2^63 of a client that does not read", hostile.Config{FirstCredit: math.MaxUint32},
			func(t *testing.T, h *hostilePeer) {
				for n := range uint32(40) {
					h.Send(hostile.Open(2*n+1, mux.StreamTCP, endless),
						hostile.Number(hostile.KindCredit, 2*n+1, 1<<63),
						hostile.Number(hostile.KindCredit, 2*n+1, math.MaxUint64))
				}
				until(t, "data", func() bool { return h.Frames(hostile.KindData) > 0 })
				h.StopReading()
				for token := range uint64(20) { // a sign of life
					h.Send(hostile.Number(hostile.KindPing, 0, token))
					pause(t, 100*time.Millisecond)
				}
			}},
		{"streams that are never read", hostile.Config{FirstCredit: 1, Acks: true},
			func(t *testing.T, h *hostilePeer) {
				h.Flood(100, func(n uint32) []byte { return hostile.Open(2*n+1, mux.StreamTCP, endless) })
				until(t, "a byte of each", func() bool { return h.Frames(hostile.KindData) == 100 })
				pause(t, time.Second)
				h.expectAlive("unread streams")
			}},
		{"resets", hostile.Config{Acks: true}, func(t *testing.T, h *hostilePeer) {
			h.Flood(100_000, func(n uint32) []byte {
				return append(hostile.Open(2*n+1, mux.StreamTCP, echo), hostile.Reset(2*n+1)...)
			})
			h.expectAlive("resets")
			until(t, "the end of its streams", func() bool { return h.remote.streams() == 1 })
		}},
		{"credit by the byte", hostile.Config{Acks: true}, creditByTheByte(endless, true)},
		{"credit by the byte that is not acknowledged", hostile.Config{},
			creditByTheByte(endless, false)},
		{"frames that may be repeated", hostile.Config{Acks: true},
			func(t *testing.T, h *hostilePeer) {
				h.Flood(million, hostile.Repeatable)
				h.expectAlive("repeated frames")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, other := newKey(t), newKey(t)
			remote := startRemote(t, trustKeys(t, key, other), nil)
			b := startBystander(t, remote, other)
			h := startHostile(t, remote, key, c.cfg)
			heap := watchHeap()
			began := time.Now()
			c.attack(t, h)
			took := time.Since(began)
			b.expectProgress()
			if grown := heap.growth(); grown > hostileHeap {
				t.Errorf("the heap has grown by %d MiB", grown>>20)
			} else {
				t.Logf("%v: the heap has grown by %d KiB, %d rounds of another client",
					took.Round(time.Millisecond), grown>>10, b.rounds.Load())
			}
			h.Close()
			b.expectProgress()
		})
	}
}

// A remote that opens streams without end and acknowledges nothing has its session ended, and the
// local's memory stays bounded. The local connects again.
func TestHostileRemoteOpens(t *testing.T) {
	codes := make(chan mux.Code, 64)
	address := startHostileRemote(t, func(h *hostile.Peer) {
		h.Flood(1_000_000, func(n uint32) []byte { return hostile.Open(2*n+2, mux.StreamTCP, "") })
		<-h.Ended()
		codes <- h.Code()
	})
	heap := watchHeap()
	startLocal(t, LocalConfig{Address: address, Key: newKey(t),
		VerifyRemote: func(protocol.Peer) error { return nil }})
	for range 2 {
		if code := receive(t, codes); code != mux.CodeProtocol {
			t.Errorf("the session ended with %v", code)
		}
	}
	if grown := heap.growth(); grown > hostileHeap {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

// creditByTheByte gives many streams of a target that sends without end one byte of credit at a
// time.
func creditByTheByte(target string, acks bool) func(t *testing.T, h *hostilePeer) {
	return func(t *testing.T, h *hostilePeer) {
		const streams, each = 50, 4000
		h.Flood(streams, func(n uint32) []byte { return hostile.Open(2*n+1, mux.StreamTCP, target) })
		until(t, "the streams", func() bool { return h.Frames(hostile.KindOpened) == streams })
		h.Flood(streams*each, func(n uint32) []byte {
			return hostile.Number(hostile.KindCredit, 2*(n%streams)+1, uint64(n/streams)+1)
		})
		h.expectAlive("credit")
		if acks {
			until(t, "the bytes", func() bool { return h.Data() == streams*each })
		}
	}
}

// Each malformed frame of each kind ends its client's session with a protocol error, and no other.
func TestMalformedFramesEndTheirSession(t *testing.T) {
	key, other := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, key, other), nil)
	b := startBystander(t, remote, other)
	for name, record := range hostile.Malformed(testnet.EchoServer(t)) {
		h := startHostile(t, remote, key, hostile.Config{})
		h.Send(record)
		h.expectEnd(name, mux.CodeProtocol)
		b.expectProgress()
	}
	until(t, "one session is left", func() bool { return remote.count() == 1 })
}
