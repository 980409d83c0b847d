package tunnel

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
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
	conn, err := connector.connect(within(t, patience), nil, newAttemptProgress(nil))
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
		stream, err := session.Open(within(t, patience),
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

// TestMemoryOfSendQueues: a client that gives 1,400 streams of a talkative target a byte of credit
// each doesn't make the remote hold more than the budget. Another client's download goes on.
func TestMemoryOfSendQueues(t *testing.T) {
	const budget, size = 64 << 20, 64 << 20
	talker, many := startTalker(t, 0), startTalker(t, 16<<10)
	hostile, friend := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, hostile, friend),
		func(cfg *RemoteConfig) { cfg.Memory = budget })
	other := connectWith(t, remote, friend, mux.DefaultMaxWindow)
	alone := downloadTime(t, other, talker, size, time.Hour)

	before := heapInUse()
	session := connectWith(t, remote, hostile, 1)
	for range 1400 {
		_, err := session.Open(within(t, patience),
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
	if held > budget*5/8 || grown > 1400*20<<10+budget {
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
