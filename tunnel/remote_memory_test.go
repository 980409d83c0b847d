package tunnel

import (
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// heapInUse returns the bytes of memory that the process uses after a collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapInuse)
}

// startTalker starts a target that sends without end, and returns its address. buffer is the size
// of the kernel's buffer, 0 for any: thousands of full ones would slow down all connections.
func startTalker(t *testing.T, buffer int) string {
	piece := make([]byte, 64<<10)
	return testnet.ServeTCP(t, func(conn *net.TCPConn) {
		defer conn.Close()
		if buffer > 0 {
			conn.SetWriteBuffer(buffer)
		}
		for {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	})
}

// connectWith makes a session whose client announces a window for each stream.
func connectWith(t *testing.T, remote *testRemote, key *certs.KeyPair, window int) *mux.Session {
	t.Helper()
	cfg := remote.localConfig(t, key)
	connector := cfg.connector()
	connector.session.Window, connector.session.MaxWindow = window, window
	conn, err := connector.connect(testnet.Within(t, patience), nil, newAttemptProgress(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.session.Close() })
	return conn.session
}

// downloadTime returns how long it takes at best to get n bytes from a talker, in a few attempts
// or, where the machine is busy, as many as it takes to get below enough.
func downloadTime(
	t *testing.T, session *mux.Session, talker string, n int64, enough time.Duration,
) time.Duration {
	t.Helper()
	best := time.Hour
	for i := 0; i < 4 || (i < 40 && best > enough); i++ {
		stream, err := session.Open(testnet.Within(t, patience),
			mux.Target{Kind: mux.StreamTCP, Address: talker})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := io.CopyN(io.Discard, stream, n); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
		stream.Close()
	}
	return best
}

// TestMemoryOfStreams: streams count in the memory budget, so that a client without any data comes
// to a quarter of it. Others still have room, and what has ended counts no longer.
func TestMemoryOfStreams(t *testing.T) {
	key, friend := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, key, friend), func(cfg *RemoteConfig) {
		cfg.Memory = 16 << 20
	})
	echo := testnet.EchoServer(t)
	open := func(session *mux.Session) error {
		target := mux.Target{Kind: mux.StreamTCP, Address: echo}
		_, err := session.Open(testnet.Within(t, patience), target)
		return err
	}
	const quarter = 16 << 20 / 4 / streamMemory
	session := connectWith(t, remote, key, 1<<10)
	var err error
	opened := 0
	for err == nil && opened <= quarter {
		if err = open(session); err == nil {
			opened++
		}
	}
	if openCode(err) != mux.CodeOverload || opened < quarter/2 || opened > quarter {
		t.Errorf("%d streams, then %v", opened, err)
	}
	other := connectWith(t, remote, friend, 1<<10)
	for range leastStreams {
		if err := open(other); err != nil {
			t.Fatalf("a stream of another client: %v", err)
		}
	}
	session.Close()
	other.Close()
	testnet.Poll(t, patience, "all memory is free again", func() bool {
		return remote.session.Memory.Held() == 0
	})
}

// TestMemoryOfSendQueues: a client that gives 1,400 streams of a talkative target a byte of credit
// each doesn't make the remote hold more than the budget. Another client's download goes on.
func TestMemoryOfSendQueues(t *testing.T) {
	const budget, size = 96 << 20, 64 << 20
	talker, many := startTalker(t, 0), startTalker(t, 16<<10)
	hostile, friend := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, hostile, friend),
		func(cfg *RemoteConfig) { cfg.Memory = budget })
	other := connectWith(t, remote, friend, mux.DefaultMaxWindow)
	alone := downloadTime(t, other, talker, size, time.Hour)

	before := heapInUse()
	session := connectWith(t, remote, hostile, 1)
	for range 1400 {
		_, err := session.Open(testnet.Within(t, patience),
			mux.Target{Kind: mux.StreamTCP, Address: many})
		if err != nil {
			t.Fatal(err)
		}
	}
	held := int64(0)
	until(t, "no more is held", func() bool {
		last := held
		held = remote.session.Memory.Held()
		return held > budget/4 && held == last
	})
	grown := heapInUse() - before
	beside := downloadTime(t, other, talker, size, alone*5/4)
	t.Logf("%d MiB held, heap +%d MiB; %d MiB alone %v, beside %v",
		held>>20, grown>>20, size>>20, alone, beside)
	if held > budget*3/4 || grown > budget {
		t.Errorf("%d MiB held, heap grown by %d MiB", held>>20, grown>>20)
	}
	if beside > alone*5/4 {
		t.Errorf("%v for the other client's download, %v without the first", beside, alone)
	}
	if err := session.Err(); err != nil {
		t.Errorf("the session that yields has ended: %v", err)
	}
	session.Close()
	other.Close()
	until(t, "all is given back", func() bool { return remote.session.Memory.Held() == 0 })
}

// TestMemoryOfExits: UDP sockets count as their client's memory. Those beyond its share are
// refused, another client's are not, and closed ones make room.
func TestMemoryOfExits(t *testing.T) {
	greedy, friend := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, greedy, friend),
		func(cfg *RemoteConfig) { cfg.Memory = 16 * exitMemory })
	session := connectWith(t, remote, greedy, mux.DefaultWindow)
	var flows []*mux.Flow
	for len(flows) < 17 {
		flow, err := session.OpenFlow(testnet.Within(t, patience), "")
		if err != nil {
			if openCode(err) != mux.CodeOverload {
				t.Fatal(err)
			}
			break
		}
		flows = append(flows, flow)
	}
	if len(flows) < 4 || len(flows) > 9 {
		t.Errorf("%d flows with a budget for 16", len(flows))
	}
	other := connectWith(t, remote, friend, mux.DefaultWindow)
	flow, err := other.OpenFlow(testnet.Within(t, patience), "")
	if err != nil {
		t.Errorf("another client: %v", err)
	} else {
		flow.Close()
	}
	flows[0].Close()
	until(t, "a closed flow makes room", func() bool {
		flow, err := session.OpenFlow(testnet.Within(t, patience), "")
		if err == nil {
			flow.Close()
		}
		return err == nil
	})
	for _, flow := range flows {
		flow.Close()
	}
	session.Close()
	other.Close()
	until(t, "all is given back", func() bool { return remote.session.Memory.Held() == 0 })
}

// TestMemoryOfReverseUDP: so do UDP ports of -R at the remote, and their clients at the local.
func TestMemoryOfReverseUDP(t *testing.T) {
	rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) {
		cfg.Reverse, cfg.Memory = rules, 16*exitMemory
	})
	session := connectWith(t, remote, key, mux.DefaultWindow)
	var ports []*mux.Stream
	for len(ports) < 17 {
		port, err := session.Open(testnet.Within(t, patience), mux.Target{
			Kind: mux.StreamListen, Address: policy.UDPPrefix + "127.0.0.1:0",
		})
		if err != nil {
			if openCode(err) != mux.CodeOverload {
				t.Fatal(err)
			}
			break
		}
		ports = append(ports, port)
	}
	if len(ports) < 4 || len(ports) > 9 {
		t.Errorf("%d ports with a budget for 16", len(ports))
	}
	session.Close()
	until(t, "the remote's is given back", func() bool { return remote.session.Memory.Held() == 0 })

	cfg := remote.localConfig(t, key)
	cfg.Memory, cfg.Bounds = 16*exitMemory, new(bounds.Counts)
	local, _ := startLocal(t, cfg)
	port, stop := serveReverseUDPTo(t, local, "127.0.0.1:0",
		testnet.EchoUDPServer(t, "127.0.0.1:0").String())
	conn := dialUDP(t, port)
	askConn(t, conn, []byte("x"))
	if held := local.MemoryHeld(); held < exitMemory {
		t.Errorf("a local with a client of a port holds %d bytes", held)
	}
	stop()
	until(t, "the local's is given back", func() bool { return local.MemoryHeld() < exitMemory })
	var releases []func()
	for release := local.reserveMemory(exitMemory); release != nil; {
		releases = append(releases, release)
		release = local.reserveMemory(exitMemory)
	}
	port, _ = serveReverseUDPTo(t, local, "127.0.0.1:0",
		testnet.EchoUDPServer(t, "127.0.0.1:0").String())
	conn = dialUDP(t, port)
	conn.Write([]byte("x"))
	until(t, "a client is refused", func() bool { return cfg.Bounds.Of(bounds.Memory) > 0 })
	for _, release := range releases {
		release()
	}
	if got := askConn(t, conn, []byte("again")); string(got) != "again" {
		t.Errorf("when there is memory: %q", got)
	}
}

// TestMemoryOfHandshakes: strangers get no more memory than their share. What they hold is given
// back when they are gone.
func TestMemoryOfHandshakes(t *testing.T) {
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key),
		func(cfg *RemoteConfig) { cfg.Memory = 16 * handshakeMemory })
	var releases []func()
	for len(releases) < 17 {
		release := remote.session.Memory.Reserve(strangers, handshakeMemory)
		if release == nil {
			break
		}
		releases = append(releases, release)
	}
	cfg := remote.localConfig(t, key)
	_, err := cfg.connector().connect(testnet.Within(t, patience), nil, newAttemptProgress(nil))
	var status *StatusError
	if !errors.As(err, &status) || status.Code != http.StatusServiceUnavailable {
		t.Errorf("with %d handshakes: %v", len(releases), err)
	}
	for _, release := range releases {
		release()
	}
	connectWith(t, remote, key, mux.DefaultWindow).Close()
	until(t, "all is given back", func() bool { return remote.session.Memory.Held() == 0 })
}
