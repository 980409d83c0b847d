package tunnel

import (
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

// startChaos starts a remote and a local with a cutter between them. The patience is for the
// sessions of both; 0 means the default.
func startChaos(
	t testing.TB, rate int, delay, patience time.Duration,
) (*Local, *testRemote, *testnet.Relay) {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	remote.mu.Lock() // which ServeHTTP takes before it makes a session
	remote.session.Patience = patience
	remote.mu.Unlock()
	c := testnet.RelayTo(t, remote.server.Listener.Addr().String(),
		testnet.RelayConfig{Rate: rate, Delay: delay})
	cfg := remote.localConfig(t, key)
	var err error
	if cfg.Address, err = ParseAddress("ws://" + c.Address() + "/"); err != nil {
		t.Fatal(err)
	}
	local := NewLocal(cfg)
	local.remotes[0].session.Patience = patience
	runLocal(t, local)
	if _, err := local.WaitSession(testnet.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return local, remote, c
}

// transferTime bounds one transfer.
const transferTime = 5 * time.Minute

// transfer makes one download or upload through the tunnel.
func transfer(t testing.TB, local *Local, server string, x testnet.Transfer) {
	err := x.Run(func() (net.Conn, error) {
		return local.DialContext(testnet.Within(t, patience), "tcp", server)
	}, transferTime)
	if err != nil {
		t.Error(err)
	}
}

// chaosRate makes the transfers of chaos take 58 s of the time that there is a carrier; its pauses
// before 100 disturbances add up to 34 s of that time.
const (
	chaosRate  = 5632 << 10
	chaosTimes = 100
	chaosSize  = 16 << 20
)

// shortPart is the part of its time that a long test takes with -short.
const shortPart = 4

// part returns n, or the part of it that is for -short.
func part[T ~int | ~int64](n T) T {
	if testing.Short() {
		return n / shortPart
	}
	return n
}

// chaos runs 20 downloads and 20 uploads of 16 MiB while disturb disrupts the carrier 100 times,
// 0.005 to 2 seconds after there is one; a quarter of both with -short. The pauses are spread
// evenly over that range in the logarithm, in a random order, so that their sum is known. They
// don't begin before there is a carrier: the Local's own pauses grow while carriers are lost before
// they carry data, and a schedule of its own would go on hitting each carrier as soon as it is
// there. disturb returns the number of connections it has hit; it is repeated until it has hit one.
// The result is the cause of the loss that followed the last disturbance; a busy machine may lose
// further carriers.
func chaos(t *testing.T, local *Local, disturb func() int) error {
	t.Helper()
	times := part(chaosTimes)
	session := local.current.session
	server := testnet.StartTransferServer(t, testnet.Listen(t)).Address
	var transfers sync.WaitGroup
	for i := range 20 {
		for _, up := range []bool{false, true} {
			x := testnet.Transfer{Up: up, Seed: uint64(i), Size: part[int64](chaosSize)}
			transfers.Go(func() { transfer(t, local, server, x) })
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		transfers.Wait()
	}()
	for n, place := range rand.Perm(times) {
		exponent := (float64(place) + rand.Float64()) / float64(times)
		pause := time.Duration(0.005 * math.Pow(400, exponent) * float64(time.Second))
		limit := testnet.Within(t, patience)
		for hit := 0; hit == 0; hit = disturb() {
			if err := session.AwaitCarrier(limit); err != nil {
				t.Fatal(err)
			}
			select {
			case <-time.After(pause):
			case <-done:
				t.Fatalf("all was over after %d of %d disturbances", n, times)
			}
		}
		// The next disturbance is for the next carrier.
		if err := session.AwaitLoss(limit); err != nil {
			t.Fatal(err)
		}
	}
	cause := session.LossCause()
	testnet.Await(t, transferTime, func() { <-done })
	if local.current.session != session {
		t.Error("the session was lost")
	}
	t.Logf("%d bytes sent again by the local", session.Stats().Resent)
	return cause
}

// The carrier is cut 100 times, and no stream notices.
func TestChaosCut(t *testing.T) {
	t.Parallel()
	local, _, c := startChaos(t, chaosRate, 0, 0)
	chaos(t, local, c.Cut)
}

// The relay stops passing anything on, even the end of a connection, 100 times. The patience is
// short to keep the test short.
func TestChaosSilence(t *testing.T) {
	t.Parallel()
	local, _, c := startChaos(t, chaosRate, 0, 200*time.Millisecond)
	if cause := chaos(t, local, c.Silence); !errors.Is(cause, mux.ErrPeerSilent) {
		t.Errorf("the last silence was taken for %v", cause)
	}
}

// At a round trip of 100 ms, data flows again within five round trips and 200 ms after a cut.
func TestResumeTime(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	echo := testnet.EchoServer(t)
	times := make([]time.Duration, 5)
	var cuts sync.WaitGroup
	for i := range times {
		local, _, c := startChaos(t, 1<<30, roundTrip/2, 0)
		conn := dial(t, local, echo)
		if err := testnet.CheckEcho(conn, "x"); err != nil {
			t.Fatal(err)
		}
		cuts.Go(func() {
			pause(t, steadyAfter)
			began := time.Now()
			c.Cut()
			if err := testnet.CheckEcho(conn, "x"); err != nil {
				t.Error(err)
			}
			times[i] = time.Since(began)
		})
	}
	cuts.Wait()
	slices.Sort(times)
	t.Logf("from cut to echo: %v", times)
	if median := times[len(times)/2]; median > 5*roundTrip+200*time.Millisecond {
		t.Errorf("median %v", median)
	}
}

// Nothing passes for a minute, or a quarter of that with -short; then the transfers continue.
func TestOutage(t *testing.T) {
	t.Parallel()
	local, _, c := startChaos(t, 8<<20, 0, 0)
	server := testnet.StartTransferServer(t, testnet.Listen(t))
	var transfers sync.WaitGroup
	for i := range 4 {
		for _, up := range []bool{false, true} {
			x := testnet.Transfer{Up: up, Seed: uint64(i), Size: 8 << 20}
			transfers.Go(func() { transfer(t, local, server.Address, x) })
		}
	}
	until(t, "all transfers have begun", func() bool { return server.Served() == 8 })
	pause(t, time.Second)
	c.SetDown(true)
	pause(t, part(time.Minute))
	c.SetDown(false)
	c.Cut() // connections that hung have lost bytes
	local.Retry()
	testnet.Await(t, transferTime, transfers.Wait)
}
