package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux/budget"
)

// joinClient starts a session of a client with a server whose sessions share a budget.
func joinClient(t testing.TB, name string, clientCfg, serverCfg Config) (client, server *Session) {
	t.Helper()
	near, far := newSecurePipe()
	return startPair(t, near, clientCfg, func() (*Session, error) {
		server, _, err := NewHost(HostConfig{}).Accept(context.Background(), far, serverCfg,
			Peer{Identity: name})
		return server, err
	})
}

// talk writes to a stream without end, until that fails.
func talk(talking *sync.WaitGroup, st *Stream) {
	talking.Go(func() {
		defer st.Close()
		piece := make([]byte, maxData)
		for {
			if _, err := st.Write(piece); err != nil {
				return
			}
		}
	})
}

// TestSendQueuesStayInBudget gives 1,400 streams of talkative targets one byte of credit each. They
// are paused at the client's share. Another client does not notice, and all memory is given back.
func TestSendQueuesStayInBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(32 << 20)
		client, server := joinClient(t, "hostile", Config{Window: 1, MaxWindow: 1},
			Config{Memory: memory})
		var talking sync.WaitGroup
		for range 1400 {
			_, accepted := openPair(t, client, server)
			talk(&talking, accepted)
		}
		synctest.Wait()
		share := memory.Limit() / 2
		stats := server.Stats()
		if held := memory.Held(); held > share+share/8 || int64(holds(stats)) > held {
			t.Errorf("%d KiB held, %d KiB counted, with a budget of %d KiB", holds(stats)>>10,
				held>>10, memory.Limit()>>10)
		}
		if stats.Queued < int(share)/4 {
			t.Errorf("only %d KiB queued", stats.Queued>>10)
		}

		other, otherServer := joinClient(t, "other", Config{}, Config{Memory: memory})
		opened, accepted := openPair(t, other, otherServer)
		var sending sync.WaitGroup
		sending.Go(func() {
			accepted.Write(make([]byte, 64<<20))
			accepted.Close()
		})
		if n, err := io.Copy(io.Discard, opened); n != 64<<20 || err != nil {
			t.Errorf("the other client got %d bytes, %v", n, err)
		}
		opened.Close()
		sending.Wait()

		client.Close()
		server.Close()
		talking.Wait()
		other.Close()
		otherServer.Close()
		synctest.Wait()
		if held := memory.Held(); held != 0 {
			t.Errorf("%d bytes held in the end", held)
		}
	})
}

// Streams that nobody reads, in both directions, take more than the client's share. A stream that
// is read moves nevertheless.
func TestStalledStreamsStallAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, window = 24, 150 << 10
		memory := budget.New(8 << 20)
		client, server := joinClient(t, "a", Config{Window: 16 << 10, MaxWindow: 16 << 10},
			Config{Memory: memory, Window: window, MaxWindow: window})
		var talking sync.WaitGroup
		for range streams {
			opened, accepted := openPair(t, client, server)
			talk(&talking, accepted)
			talk(&talking, opened)
		}
		time.Sleep(time.Second) // synctest: until all is acknowledged
		synctest.Wait()
		stats := server.Stats()
		if server.memory.pressure() != budget.Exceeded || stats.Queued < leastSending ||
			stats.Buffered < streams*window {
			t.Fatalf("%d KiB queued, %d KiB received, %d KiB held of %d", stats.Queued>>10,
				stats.Buffered>>10, memory.Held()>>10, memory.Limit()>>10)
		}
		held := memory.Held()
		opened, accepted := openPair(t, client, server)
		content := randomBytes(t, 4<<20)
		var sending sync.WaitGroup
		sending.Go(func() {
			accepted.ReadFrom(bytes.NewReader(content))
			accepted.Close()
		})
		opened.SetReadDeadline(time.Now().Add(time.Minute))
		got, err := io.ReadAll(opened)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
		}
		opened.SetLinger(0)
		opened.Close()
		sending.Wait()
		synctest.Wait()
		if after := memory.Held(); after > held+leastSending {
			t.Errorf("%d KiB held, %d before", after>>10, held>>10)
		}
		client.Close()
		server.Close()
		talking.Wait()
	})
}

// TestEchoUnderPressure: targets that write before they read on don't wait forever for memory that
// their own unread data holds.
func TestEchoUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(4 << 20)
		others := memory.Join("others", func() {})
		defer others.Leave()
		others.Hold(3 << 20) // there is no share
		client, server := joinClient(t, "a", Config{Window: 32 << 10, MaxWindow: 32 << 10},
			Config{Window: 64 << 10, Memory: memory})
		content := randomBytes(t, 1<<20)
		var ends sync.WaitGroup
		for range 12 {
			opened, accepted := openPair(t, client, server)
			ends.Go(func() {
				piece := make([]byte, 8<<10)
				for {
					n, err := accepted.Read(piece)
					if err == nil {
						_, err = accepted.Write(piece[:n])
					}
					if err != nil {
						accepted.Close()
						return
					}
				}
			})
			ends.Go(func() {
				if _, err := opened.Write(content); err != nil {
					t.Error(err)
				}
				opened.CloseWrite()
			})
			ends.Go(func() {
				synctest.Wait() // until nothing moves any more
				got, err := io.ReadAll(opened)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
				}
				opened.Close()
			})
		}
		ends.Wait()
	})
}

// TestWindowsShrink: while a client exceeds its share, the peer of a stream gets less credit each
// time, but always some. Afterwards the window grows again.
func TestWindowsShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(64 << 20)
		s, p := newRawClient(t, Config{Memory: memory}, rawHello)
		st := p.accept(s, 1)
		others := memory.Join("", func() {})
		defer others.Leave()
		others.Hold(40 << 20)
		offset, limit := uint64(0), uint64(DefaultWindow)
		use := func() (window uint64) {
			for offset < limit {
				n := min(limit-offset, maxData)
				p.send(wire(kindData, 1, make([]byte, n)))
				offset += n
				synctest.Wait()
				io.ReadFull(st, make([]byte, n))
			}
			for _, f := range ofKind(p.quiet(), kindCredit) {
				limit = f.uint64()
			}
			if limit == offset {
				t.Fatal("no credit")
			}
			return limit - offset
		}
		window := uint64(0)
		for range 12 {
			window = use()
		}
		if window > leastWindow {
			t.Errorf("window of %d bytes under pressure", window)
		}
		others.Hold(0)
		s.mu.Lock()
		s.link.rtt.least = 1 << 30 // a second: what is consumed within a round trip is not enough
		s.mu.Unlock()
		for range 12 {
			window = use()
		}
		if window < DefaultWindow/2 {
			t.Errorf("window of %d bytes afterwards", window)
		}
	})
}

// TestExpelledSession: a client that fills the memory with data that its targets don't read loses
// its largest session, with a code, and gets the memory back. Its streams end with an error.
func TestExpelledSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(16 << 20)
		counts := new(bounds.Counts)
		cfg := Config{Memory: memory, MaxBuffered: 8 << 20, Bounds: counts}
		var clients, servers []*Session
		var uploads sync.WaitGroup
		var unread []*Stream
		for i := range 3 {
			client, server := joinClient(t, "hostile", Config{}, cfg)
			clients, servers = append(clients, client), append(servers, server)
			for range 22 - i {
				opened, accepted := openPair(t, client, server)
				unread = append(unread, accepted)
				talk(&uploads, opened)
			}
			synctest.Wait()
		}
		var lost int
		for i, client := range clients {
			var closed *CloseError
			switch err := client.Err(); {
			case err == nil:
			case errors.As(err, &closed) && closed.Code == CodeMemory &&
				errors.Is(servers[i].Err(), ErrMemory):
				lost++
			default:
				t.Errorf("session %d: %v", i, err)
			}
		}
		if lost == 0 || lost == len(clients) {
			t.Errorf("%d of %d sessions ended", lost, len(clients))
		}
		if n := counts.Of(bounds.Memory); n != uint64(lost) {
			t.Errorf("%d sessions ended, and %d are counted", lost, n)
		}
		if held := memory.Held(); held > memory.Limit()/8*7 {
			t.Errorf("%d MiB held of %d", held>>20, memory.Limit()>>20)
		}
		for i, client := range clients {
			client.Close()
			servers[i].Close()
		}
		uploads.Wait()
		for _, st := range unread {
			if _, err := io.Copy(io.Discard, st); err == nil {
				t.Error("a stream of a session that was lost ended cleanly")
			}
			st.Close()
		}
		synctest.Wait()
		if held := memory.Held(); held != 0 {
			t.Errorf("%d bytes held in the end", held)
		}
	})
}

// What an expelled session drops of a stream that has ended cleanly is missing: its reader must not
// get an end of file.
func TestExpelledLeftover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := joinClient(t, "somebody", Config{}, Config{})
		opened, accepted := openPair(t, client, server)
		opened.Write(make([]byte, 100<<10))
		opened.CloseWrite()
		accepted.CloseWrite()
		time.Sleep(time.Second) // until all has arrived
		server.mu.Lock()
		if len(server.streams.leftovers) != 1 {
			t.Errorf("%d streams have ended with unread data", len(server.streams.leftovers))
		}
		server.expelLocked()
		server.mu.Unlock()
		if n, err := io.Copy(io.Discard, accepted); err == nil {
			t.Errorf("a clean end after %d bytes", n)
		}
		accepted.Close()
		opened.Close()
	})
}

// Streams that a session had not accepted when it ended hold nothing any more.
func TestUnacceptedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(16 << 20)
		client, server := joinClient(t, "somebody", Config{}, Config{Memory: memory})
		for range 10 {
			st, err := client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			st.Write([]byte("early"))
		}
		flow, err := client.OpenFlowAtOnce("h:1")
		if err != nil {
			t.Fatal(err)
		}
		defer flow.Close()
		flow.Send([]byte("early"))
		time.Sleep(time.Second)
		if memory.Held() == 0 {
			t.Error("nothing is held for the streams")
		}
		server.Close()
		if held := memory.Held(); held != 0 {
			t.Errorf("%d bytes are held in the end", held)
		}
	})
}

// TestExpelledFreesRetained: a session that is expelled frees at once what the peer has not
// acknowledged, so that no other is expelled for that.
func TestExpelledFreesRetained(t *testing.T) {
	t.Parallel()
	memory := budget.New(64 << 20)
	client, server := joinClient(t, "a", Config{}, Config{Memory: memory})
	_, accepted := openPair(t, client, server)
	client.mu.Lock() // the client acknowledges nothing
	defer client.mu.Unlock()
	var writing sync.WaitGroup
	writing.Go(func() { accepted.Write(make([]byte, 512<<10)) })
	testnet.Poll(t, time.Minute, "much is retained", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return server.out.retained.mem >= 2*largeBlock
	})
	server.mu.Lock()
	server.expelLocked()
	retained := server.out.retained.mem
	server.mu.Unlock()
	if retained > largeBlock { // the close
		t.Errorf("%d KiB retained", retained>>10)
	}
	writing.Wait()
}

// TestAwayDropsDatagrams: datagrams that were queued when a session lost its carrier are dropped,
// and count no more.
func TestAwayDropsDatagrams(t *testing.T) {
	t.Parallel()
	memory := budget.New(64 << 20)
	client, server := joinClient(t, "a", Config{}, Config{Memory: memory})
	opened, accepted := openFlowPair(t, client, server)
	client.mu.Lock() // the client takes nothing
	for range 150 {
		accepted.Send(make([]byte, 1000))
	}
	server.mu.Lock()
	carrier := server.link.carrier
	server.mu.Unlock()
	held := memory.Held()
	client.mu.Unlock()
	const retained = 64 << 10 // frames of the session, which the peer has not acknowledged
	if held <= retained {
		t.Fatal("nothing is queued")
	}
	carrier.Close()
	testnet.Poll(t, time.Minute, "nothing is queued while the session is away", func() bool {
		return server.Stats().Away && memory.Held() <= retained
	})
	client.Close()
	opened.Close()
}
