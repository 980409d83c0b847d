package tunnel

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/state"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// The rates of a client hold in each direction for what all its streams carry together.
func TestRateOfOneClient(t *testing.T) {
	const up, down = 400 << 10, 200 << 10
	key, free := newKey(t), newKey(t)
	rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	lines := trustLines(t, key.Public().String()+" rate=400K/200K", free.Public().String())
	remote := startRemote(t, lines, func(cfg *RemoteConfig) { cfg.Reverse = rules })
	cfg := remote.localConfig(t, key)
	local, _ := startLocal(t, cfg)
	other, _ := startLocal(t, remote.localConfig(t, free))
	echo := testnet.EchoServer(t)

	// transfer sends size bytes each way, in one direction after the other, on several connections.
	transfer := func(name string, size int, dial func() net.Conn) (took [2]time.Duration) {
		t.Helper()
		const conns = 4
		for d, upload := range []bool{true, false} {
			var working sync.WaitGroup
			began := time.Now()
			for range conns {
				conn := dial()
				working.Go(func() { carry(t, name, conn, upload, size/conns) })
			}
			working.Wait()
			took[d] = time.Since(began)
		}
		return took
	}
	check := func(name string, took [2]time.Duration, size int, rates [2]int) {
		t.Helper()
		for d, took := range took {
			// The burst is a twentieth of a second.
			least := time.Duration(size) * time.Second / time.Duration(rates[d])
			if took < least-100*time.Millisecond || took > 4*least+10*time.Second {
				t.Errorf("%s, direction %d: took %v, want %v", name, d, took, least)
			}
		}
	}
	target := testnet.ServeTCP(t, serveCarry)
	const size = 160 << 10
	check("forward", transfer("forward", size, func() net.Conn { return dial(t, local, target) }),
		size, [2]int{up, down})
	sessions := remote.State().Sessions
	if len(sessions) == 0 {
		t.Error("no session in the state")
	}
	for _, session := range sessions {
		want := state.Limits{Client: session.Key, RateUp: up, RateDown: down}
		if session.Key != key.Public().String() {
			want.RateUp, want.RateDown = 0, 0
		}
		if l := session.Limits; l.Client != want.Client || l.RateUp != want.RateUp ||
			l.RateDown != want.RateDown {
			t.Errorf("the state has %+v, want the rates of %+v", l, want)
		}
	}

	ln, err := local.ListenReverse(testnet.Within(t, patience), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	serving.Go(func() { local.ServeReverse(ctx, ln, target) })
	check("reverse", transfer("reverse", size, func() net.Conn {
		return dialPlain(t, ln.Addr().String())
	}), size, [2]int{down, up}) // the server is at the local

	began := time.Now()
	conn := dial(t, other, target)
	carry(t, "without a rate", conn, true, 4<<20)
	if took := time.Since(began); took > 9*time.Second { // at the others' it takes 10
		t.Errorf("a client without a rate: 4 MiB took %v", took)
	}

	// A reload changes the rate of streams that are open.
	slow := dial(t, local, echo)
	if err := remote.Reload(remote.cfg.Identity, trustKeys(t, key), policy.Rights{
		Share: policy.Share{Up: 8 << 10, Down: 8 << 10},
	}); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	slow.Write(make([]byte, 12<<10))
	if _, err := io.ReadFull(slow, make([]byte, 12<<10)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("12 KiB at a rate of 8 took %v", took)
	}
}

// serveCarry discards what it reads after the byte u, and sends without end after the byte d.
func serveCarry(conn *net.TCPConn) {
	what := make([]byte, 1)
	if _, err := io.ReadFull(conn, what); err != nil {
		return
	}
	if what[0] == 'u' {
		io.Copy(io.Discard, conn)
		conn.Write([]byte{1})
		return
	}
	for b := make([]byte, 16<<10); ; {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// carry carries bytes to serveCarry, or from there.
func carry(t *testing.T, name string, conn net.Conn, upload bool, size int) {
	t.Helper()
	defer conn.Close()
	if !upload {
		conn.Write([]byte{'d'})
		if _, err := io.CopyN(io.Discard, conn, int64(size)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	conn.Write([]byte{'u'})
	conn.Write(make([]byte, size))
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// Datagrams of all flows share the rate, and data waits for them. Those beyond it are dropped.
func TestRateOfDatagrams(t *testing.T) {
	for d, direction := range []mux.Direction{mux.FromPeer, mux.ToPeer} {
		synctest.Test(t, func(t *testing.T) {
			m := newClientMeter(&Remote{}, "", policy.Share{Up: 100 << 10, Down: 100 << 10})
			var carried atomic.Int64
			began := time.Now()
			var sending sync.WaitGroup
			for i := range 2 {
				sending.Go(func() {
					for time.Since(began) < 10*time.Second {
						if m.passes(direction, 1<<10) {
							carried.Add(1 << 10)
						}
						time.Sleep(time.Duration(3+i) * time.Millisecond) // synctest
					}
				})
			}
			sending.Wait()
			if sum := carried.Load(); sum < 990<<10 || sum > 1070<<10 {
				t.Errorf("direction %d: %d KiB in 10 s", d, sum>>10)
			}
			time.Sleep(time.Second) // synctest
			if !m.passes(direction, 60<<10) {
				t.Error("a datagram is dropped after a second without one")
			}
			if wait := m.Reserve(direction, 1<<10); wait < 500*time.Millisecond || wait > time.Second {
				t.Errorf("data after a burst of datagrams waits %v", wait)
			}
			other := []mux.Direction{mux.ToPeer, mux.FromPeer}[d]
			if !m.passes(other, 1<<10) || m.Reserve(other, 1<<10) > 0 {
				t.Error("the directions share a rate")
			}
			m.set(policy.Share{})
			if !m.passes(direction, mux.MaxDatagram) || m.Reserve(direction, 1<<20) > 0 {
				t.Error("a rate that was taken back holds")
			}
		})
	}
}

// The rate holds for datagrams, forward and reverse.
func TestRateOfFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := muxPair(t)
		opened, err := near.OpenFlowAtOnce("")
		if err != nil {
			t.Fatal(err)
		}
		in, err := far.Accept(testnet.Within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := in.(*mux.IncomingFlow).Confirm()
		if err != nil {
			t.Fatal(err)
		}
		f := newFlow(accepted)
		f.meter = newClientMeter(&Remote{}, "", policy.Share{Up: 50 << 10, Down: 20 << 10})
		var up, down int
		began := time.Now()
		var working sync.WaitGroup
		working.Go(func() {
			f.receive(func(p []byte) {
				if time.Since(began) < 5*time.Second {
					up += len(p)
				}
			})
		})
		working.Go(func() {
			for time.Since(began) < 5*time.Second {
				f.send(make([]byte, 1<<10))
				time.Sleep(time.Millisecond) // synctest
			}
		})
		working.Go(func() {
			for time.Since(began) < 5*time.Second {
				opened.Send(make([]byte, 1<<10))
				time.Sleep(time.Millisecond) // synctest
			}
			opened.Close()
		})
		working.Go(func() {
			p := make([]byte, 1<<10)
			for {
				n, err := opened.Receive(p)
				if err != nil {
					return
				}
				down += n
			}
		})
		working.Wait()
		const burst = mux.MaxDatagram
		if up < 240<<10 || up > 255<<10+burst || down < 95<<10 || down > 105<<10+burst {
			t.Errorf("%d KiB up, %d KiB down in 5 s", up>>10, down>>10)
		}
	})
}
