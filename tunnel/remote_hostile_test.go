package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
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
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// Kinds of frames: see package mux.
const (
	framePing     = 0x02
	framePong     = 0x03
	frameAck      = 0x04
	frameClose    = 0x05
	frameDraining = 0x46
	frameOpen     = 0x50
	frameOpened   = 0x51
	frameRefused  = 0x52
	frameData     = 0x53
	frameCredit   = 0x54
	frameFin      = 0x55
	frameReset    = 0x56
	frameDatagram = 0xa0

	frameHeader    = 8
	frameSequenced = 0x40
)

// rawFrame returns a frame's bytes.
func rawFrame(kind byte, stream uint32, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

func rawUint64(kind byte, stream uint32, v uint64) []byte {
	return rawFrame(kind, stream, binary.BigEndian.AppendUint64(nil, v)...)
}

func rawOpen(stream uint32, kind mux.StreamKind, target string) []byte {
	p := binary.BigEndian.AppendUint16([]byte{byte(kind)}, uint16(len(target)))
	return rawFrame(frameOpen, stream, append(p, target...)...)
}

// rawHello returns the first frame of an end, which gives each new stream some credit. That of a
// remote offers to resume the session.
func rawHello(ofRemote bool, firstCredit uint32) []byte {
	p := append([]byte("culvert"), 1, 1, 0, 0, 0)
	p = binary.BigEndian.AppendUint32(p, mux.MaxRecordSize)
	p = binary.BigEndian.AppendUint32(p, firstCredit)
	p = binary.BigEndian.AppendUint32(p, math.MaxUint32) // streams of the other end
	p = append(p, make([]byte, 8+8+16+32+4)...)
	if ofRemote {
		p[8], p[len("culvert")+5+12+16] = 2, 1
	}
	return rawFrame(0x01, 0, p...)
}

// hostilePeer is an admitted client, or a remote, that sends what it likes. It reads all that
// comes, until it is told not to.
type hostilePeer struct {
	t       testing.TB
	remote  *testRemote // of a client
	conn    *protocol.Conn
	acks    bool          // it acknowledges what it reads
	deaf    chan struct{} // closed when it reads no more
	ended   chan struct{} // closed when the connection has ended, or it reads no more
	writing sync.Mutex

	frames [256]atomic.Int64 // that have come, by kind
	code   atomic.Uint32     // of the close frame
	pong   atomic.Uint64     // token of the last one
	data   atomic.Int64      // bytes of all streams
}

// hostileConfig is what differs between hostile peers.
type hostileConfig struct {
	firstCredit uint32
	acks        bool
}

// startHostile connects a hostile client to a remote that admits its key.
func startHostile(
	t testing.TB, remote *testRemote, key *certs.KeyPair, cfg hostileConfig,
) *hostilePeer {
	t.Helper()
	ws, _, err := protocol.NewDialer(nil, nil).Dial(
		"ws"+strings.TrimPrefix(remote.server.URL, "http"), http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := protocol.Client(context.Background(), ws, protocol.ClientConfig{Version: 1, Key: key,
		VerifyServer: remote.pin, MaxMessage: mux.MaxRecordSize})
	if err != nil {
		t.Fatal(err)
	}
	h := newHostile(t, conn, cfg)
	h.remote = remote
	h.send(rawHello(false, cfg.firstCredit))
	if _, err := conn.ReadRecord(nil); err != nil { // the remote's hello
		t.Fatal(err)
	}
	go h.read()
	t.Cleanup(func() {
		conn.Close()
		<-h.ended
	})
	return h
}

func newHostile(t testing.TB, conn *protocol.Conn, cfg hostileConfig) *hostilePeer {
	return &hostilePeer{t: t, conn: conn, acks: cfg.acks, deaf: make(chan struct{}),
		ended: make(chan struct{})}
}

// startHostileRemote starts a remote for which attack is called with each session, and returns its
// address. The session ends when attack returns.
func startHostileRemote(t testing.TB, attack func(h *hostilePeer)) Address {
	t.Helper()
	cfg := protocol.ServerConfig{Key: newKey(t), MaxMessage: mux.MaxRecordSize,
		Admit: func(protocol.Peer) error { return nil }, Replay: protocol.NewReplayCache(0)}
	var serving sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		ws, err := protocol.Upgrade(w, r)
		if err != nil {
			return
		}
		conn, err := protocol.Server(r.Context(), ws, cfg)
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := conn.ReadRecord(nil); err != nil { // the local's hello
			return
		}
		h := newHostile(t, conn, hostileConfig{})
		h.send(rawHello(true, 1<<20))
		go h.read()
		attack(h)
		conn.Close()
		<-h.ended
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

// send sends a record of frames. It reports whether the connection still takes it.
func (h *hostilePeer) send(frames ...[]byte) bool {
	h.writing.Lock()
	defer h.writing.Unlock()
	return h.conn.WriteRecords(bytes.Join(frames, nil)) == nil
}

// refused returns how many streams were refused.
func (h *hostilePeer) refused() int64 { return h.frames[frameRefused].Load() }

func (h *hostilePeer) read() {
	defer close(h.ended)
	position := uint64(0)
	var buf []byte
	for {
		select {
		case <-h.deaf:
			return
		default:
		}
		record, err := h.conn.ReadRecord(buf)
		if err != nil {
			return
		}
		buf = record[:0]
		for len(record) >= frameHeader {
			kind, size := record[0], frameHeader+int(binary.BigEndian.Uint32(record)&0xffffff)
			h.frames[kind].Add(1)
			if kind&frameSequenced != 0 {
				position += uint64(size)
			}
			switch payload := record[frameHeader:size]; kind {
			case frameClose:
				h.code.Store(uint32(binary.BigEndian.Uint16(payload)))
			case framePong:
				h.pong.Store(binary.BigEndian.Uint64(payload))
			case frameData:
				h.data.Add(int64(len(payload)))
			}
			record = record[size:]
		}
		if h.acks && !h.send(rawUint64(frameAck, 0, position)) {
			return
		}
	}
}

// flood sends records of the nth, n+1st … of count pieces, until the connection ends.
func (h *hostilePeer) flood(count uint32, piece func(n uint32) []byte) {
	var record []byte
	for n := range count {
		record = append(record, piece(n)...)
		if len(record) > 16<<10 || n == count-1 {
			if !h.send(record) {
				return
			}
			record = record[:0]
		}
	}
}

// expectEnd checks that the remote ends the session with a code.
func (h *hostilePeer) expectEnd(what string, want mux.Code) {
	h.t.Helper()
	receive(h.t, h.ended)
	if got := mux.Code(h.code.Load()); got != want {
		h.t.Errorf("%s: the session ended with %v, want %v", what, got, want)
	}
}

// expectAlive checks that the session answers a ping that follows all that was sent.
func (h *hostilePeer) expectAlive(what string) {
	h.t.Helper()
	const token = math.MaxUint64
	h.send(rawUint64(framePing, 0, token))
	until(h.t, what+": a pong", func() bool { return h.pong.Load() == token })
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
	if _, err := local.WaitSession(within(t, 10*time.Second)); err != nil {
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
		cfg    hostileConfig
		attack func(t *testing.T, h *hostilePeer)
	}{
		{"opens as fast as they are refused", hostileConfig{acks: true},
			func(t *testing.T, h *hostilePeer) {
				const all, some = 50_000, 5_000 // twice as many are open at most, fewer than may be
				for first := uint32(0); first < all; first += some {
					h.flood(some, func(n uint32) []byte { return rawOpen(2*(first+n)+1, 9, "") })
					until(t, "refusals", func() bool { return h.refused() >= int64(first) })
				}
				until(t, "all refusals", func() bool { return h.refused() == all })
				h.expectAlive("opens")
			}},
		{"a million opens that are not acknowledged", hostileConfig{},
			func(t *testing.T, h *hostilePeer) {
				h.flood(million, func(n uint32) []byte { return rawOpen(2*n+1, 9, "") })
				h.expectEnd("opens", mux.CodeProtocol)
			}},
		{"a million opens whose answers are not read", hostileConfig{},
			func(t *testing.T, h *hostilePeer) {
				close(h.deaf)
				h.send(rawUint64(framePing, 0, 1))
				<-h.ended
				h.flood(2*million, func(n uint32) []byte { return rawOpen(2*n+1, 9, "") })
				if h.send(rawUint64(framePing, 0, 2)) {
					h.t.Error("the session goes on")
				}
			}},
		{"windows of 2^63 of a client that does not read", hostileConfig{firstCredit: math.MaxUint32},
			func(t *testing.T, h *hostilePeer) {
				for n := range uint32(40) {
					h.send(rawOpen(2*n+1, mux.StreamTCP, endless), rawUint64(frameCredit, 2*n+1, 1<<63),
						rawUint64(frameCredit, 2*n+1, math.MaxUint64))
				}
				until(t, "data", func() bool { return h.frames[frameData].Load() > 0 })
				close(h.deaf)
				for token := range uint64(20) { // a sign of life
					h.send(rawUint64(framePing, 0, token))
					pause(t, 100*time.Millisecond)
				}
			}},
		{"streams that are never read", hostileConfig{firstCredit: 1, acks: true},
			func(t *testing.T, h *hostilePeer) {
				h.flood(100, func(n uint32) []byte { return rawOpen(2*n+1, mux.StreamTCP, endless) })
				until(t, "a byte of each", func() bool { return h.frames[frameData].Load() == 100 })
				pause(t, time.Second)
				h.expectAlive("unread streams")
			}},
		{"resets", hostileConfig{acks: true}, func(t *testing.T, h *hostilePeer) {
			h.flood(100_000, func(n uint32) []byte {
				return append(rawOpen(2*n+1, mux.StreamTCP, echo), rawFrame(frameReset, 2*n+1, 0, 20)...)
			})
			h.expectAlive("resets")
			until(t, "the end of its streams", func() bool { return h.remote.streams() == 1 })
		}},
		{"credit by the byte", hostileConfig{acks: true}, creditByTheByte(endless)},
		{"credit by the byte that is not acknowledged", hostileConfig{}, creditByTheByte(endless)},
		{"frames that may be repeated", hostileConfig{acks: true},
			func(t *testing.T, h *hostilePeer) {
				h.flood(million, func(n uint32) []byte {
					switch n % 5 {
					case 0:
						return rawUint64(framePing, 0, uint64(n))
					case 1:
						return rawUint64(frameAck, 0, 0)
					case 2:
						return rawFrame(frameDraining, 0)
					case 3:
						return rawFrame(frameDatagram, 1, 0, 'x') // there is no such flow
					}
					return rawFrame(0x81, 0, 'x') // unknown, to be skipped
				})
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
			h.conn.Close()
			b.expectProgress()
		})
	}
}

// A remote that opens streams without end and acknowledges nothing has its session ended, and the
// local's memory stays bounded. The local connects again.
func TestHostileRemoteOpens(t *testing.T) {
	codes := make(chan mux.Code, 64)
	address := startHostileRemote(t, func(h *hostilePeer) {
		h.flood(1_000_000, func(n uint32) []byte { return rawOpen(2*n+2, mux.StreamTCP, "") })
		<-h.ended
		codes <- mux.Code(h.code.Load())
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
func creditByTheByte(target string) func(t *testing.T, h *hostilePeer) {
	return func(t *testing.T, h *hostilePeer) {
		const streams, each = 50, 4000
		h.flood(streams, func(n uint32) []byte { return rawOpen(2*n+1, mux.StreamTCP, target) })
		until(t, "the streams", func() bool { return h.frames[frameOpened].Load() == streams })
		h.flood(streams*each, func(n uint32) []byte {
			return rawUint64(frameCredit, 2*(n%streams)+1, uint64(n/streams)+1)
		})
		h.expectAlive("credit")
		if h.acks {
			until(t, "the bytes", func() bool { return h.data.Load() == streams*each })
		}
	}
}

// Each malformed frame of each kind ends its client's session with a protocol error, and no other.
func TestMalformedFramesEndTheirSession(t *testing.T) {
	key, other := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, key, other), nil)
	b := startBystander(t, remote, other)
	stream := rawOpen(1, mux.StreamTCP, testnet.EchoServer(t))
	flow := rawOpen(1, mux.StreamUDP, "127.0.0.1:9")
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	long := make([]byte, 32<<10)
	for name, record := range map[string][]byte{
		"short header":            rawFrame(framePing, 0)[:5],
		"long payload":            {framePing, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"second hello":            rawHello(false, 0),
		"unknown kind":            rawFrame(0x10, 0),
		"unknown sequenced kind":  rawFrame(0x5f, 0),
		"short ping":              rawFrame(framePing, 0, 1),
		"ping on a stream":        join(stream, rawUint64(framePing, 1, 1)),
		"long pong":               rawFrame(framePong, 0, long[:9]...),
		"pong without a ping":     rawUint64(framePong, 0, 1<<40),
		"empty ack":               rawFrame(frameAck, 0),
		"ack of too much":         rawUint64(frameAck, 0, 1<<40),
		"short close":             rawFrame(frameClose, 0, 1),
		"long close":              rawFrame(frameClose, 0, long[:259]...),
		"draining with more":      rawFrame(frameDraining, 0, 1),
		"draining on a stream":    join(stream, rawFrame(frameDraining, 1)),
		"short open":              rawFrame(frameOpen, 1, 1, 0),
		"open with half a target": rawFrame(frameOpen, 1, 1, 0, 9, 'x'),
		"open with a long target": rawOpen(1, mux.StreamTCP, string(long[:513])),
		"open of 0":               rawOpen(0, mux.StreamTCP, ""),
		"open of an even id":      rawOpen(2, mux.StreamTCP, ""),
		"second open":             join(stream, stream),
		"open with a flow's data": rawFrame(frameOpen, 1, byte(mux.StreamUDP), 0, 0, 'x'),
		"opened with more":        join(stream, rawFrame(frameOpened, 1, 1)),
		"opened by the opener":    join(stream, rawFrame(frameOpened, 1)),
		"opened without an open":  rawFrame(frameOpened, 2),
		"short refusal":           join(stream, rawFrame(frameRefused, 1, 1)),
		"refused by the opener":   join(stream, rawFrame(frameRefused, 1, 0, 1)),
		"empty data":              join(stream, rawFrame(frameData, 1)),
		"data without an open":    rawFrame(frameData, 1, 1),
		"data after the end":      join(stream, rawFrame(frameFin, 1), rawFrame(frameData, 1, 1)),
		"data on a flow":          join(flow, rawFrame(frameData, 1, 1)),
		"short credit":            join(stream, rawFrame(frameCredit, 1, long[:7]...)),
		"credit without an open":  rawUint64(frameCredit, 1, 1),
		"fin with more":           join(stream, rawFrame(frameFin, 1, 1)),
		"second fin":              join(stream, rawFrame(frameFin, 1), rawFrame(frameFin, 1)),
		"fin without an open":     rawFrame(frameFin, 3),
		"short reset":             join(stream, rawFrame(frameReset, 1, 1)),
		"reset without an open":   rawFrame(frameReset, 1, 0, 20),
		"empty datagram":          join(flow, rawFrame(frameDatagram, 1)),
		"datagram on 0":           rawFrame(frameDatagram, 0, 0, 1),
		"datagram with flags":     join(flow, rawFrame(frameDatagram, 1, 4, 1)),
		"datagram on a stream":    join(stream, rawFrame(frameDatagram, 1, 0, 1)),
	} {
		h := startHostile(t, remote, key, hostileConfig{})
		h.send(record)
		h.expectEnd(name, mux.CodeProtocol)
		b.expectProgress()
	}
	until(t, "one session is left", func() bool { return remote.count() == 1 })
}
