package mux

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/tunnel/mux/budget"
)

// TestPausedStreamsLoseNothing: streams of a client that reads none of them for a while are paused,
// and deliver every byte once it does, whatever the order.
func TestPausedStreamsLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(2 << 20)
		client, server := joinClient(t, "a", Config{Window: 16 << 10}, Config{Memory: memory})
		content := randomBytes(t, 400<<10)
		var writing sync.WaitGroup
		var streams []*Stream
		for range 40 {
			opened, accepted := openPair(t, client, server)
			streams = append(streams, opened)
			writing.Go(func() {
				if _, err := accepted.ReadFrom(bytes.NewReader(content)); err != nil {
					t.Error(err)
				}
				accepted.Close()
			})
		}
		synctest.Wait()
		// Each ReadFrom of what is no socket may have read a piece without asking.
		if held := memory.Held(); held > memory.Limit()/2+40*largeBlock {
			t.Errorf("%d KiB held", held>>10)
		}
		var reading sync.WaitGroup
		for _, st := range streams {
			reading.Go(func() {
				got, err := io.ReadAll(st)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
				}
				st.Close()
			})
		}
		reading.Wait()
		writing.Wait()
		client.Close()
		server.Close()
		synctest.Wait()
		if held := memory.Held(); held != 0 {
			t.Errorf("%d bytes held in the end", held)
		}
	})
}

// TestPausedStreamSleeps: a stream that waits for memory is woken only when its writer would go on,
// or the two would wake each other for ever.
func TestPausedStreamSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(64 << 20)
		client, server := joinClient(t, "client", Config{}, Config{Memory: memory})
		opened, accepted := openPair(t, client, server)
		s := server
		others, own := memory.Join("others", func() {}), memory.Join(s.memory.client, func() {})
		others.Hold(33 << 20) // a share of 6 MiB is left
		own.Hold(4 << 20)
		s.mu.Lock()
		st := &accepted.stream
		h, m := &st.send, &s.memory
		h.limit = h.sent // no credit
		h.queue.write(make([]byte, 3*maxData/4))
		st.noteStallLocked()
		s.settleMemoryLocked()
		st.listPausedLocked()
		pressure := m.member.Pressure(0)
		s.resumePausedLocked()
		if st.send.pausing.list == nil || pressure != budget.High {
			t.Errorf("with %d bytes queued of %d it is woken, pressure %d", h.queue.len,
				st.sendBufferLocked(0), pressure)
		}
		s.mu.Unlock()
		others.Leave()
		own.Leave()
		opened.Close()
		client.Close()
		server.Close()
	})
}

// Streams to which the peer gives no credit wait for much memory. They aren't looked at each time
// that there is a little.
func TestPausedStreamsAreNotScanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 1500
		memory := budget.New(64 << 20)
		client, server := joinClient(t, "client", Config{Window: 1, MaxWindow: 1},
			Config{Memory: memory})
		var talking sync.WaitGroup
		for range streams {
			_, accepted := openPair(t, client, server)
			talk(&talking, accepted)
		}
		synctest.Wait()
		others := memory.Join("others", func() {})
		defer others.Leave()
		looks, most := 0, 0
		for i := range 100 {
			others.Hold((8 + i%2) << 20)
			time.Sleep(5 * time.Millisecond) // synctest
			server.mu.Lock()
			n := server.resumePausedLocked()
			if i == 0 && (server.memory.pressure() != budget.Exceeded ||
				server.memory.sending.Load() >= leastSending) {
				t.Errorf("pressure %d, %d bytes to be sent", server.memory.pressure(),
					server.memory.sending.Load())
			}
			server.mu.Unlock()
			looks, most = looks+n, max(most, n)
		}
		if most > 100 || looks > streams {
			t.Errorf("%d streams were looked at, at most %d at a time, of %d", looks, most, streams)
		}
		client.Close()
		server.Close()
		talking.Wait()
	})
}

// What clears the way for a stream that waits for memory wakes it, whatever the order in which that
// comes and goes.
func TestPausedStreamsMissNoWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(4 << 20)
		others := memory.Join("others", func() {})
		defer others.Leave()
		var work sync.WaitGroup
		for session := range 3 {
			client, server := joinClient(t, "a", Config{Window: 16 << 10},
				Config{Memory: memory, SendBuffer: 64 << 10 >> session})
			for range 20 {
				opened, accepted := openPair(t, client, server)
				content := randomBytes(t, 300<<10)
				work.Go(func() {
					if _, err := accepted.ReadFrom(bytes.NewReader(content)); err != nil {
						t.Error(err)
					}
					accepted.Close()
				})
				work.Go(func() {
					defer opened.Close()
					slow := &slowReader{Reader: opened}
					got, err := io.ReadAll(slow)
					if err != nil || !bytes.Equal(got, content) {
						t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
					}
				})
			}
		}
		done := make(chan struct{})
		go func() {
			work.Wait()
			close(done)
		}()
		for held, deadline := 0, time.After(time.Hour); ; held = rand.IntN(3 << 20) {
			others.Hold(held)
			select {
			case <-done:
				return
			case <-deadline:
				t.Fatal("some wait for ever")
			case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
			}
		}
	})
}

// slowReader waits now and then.
type slowReader struct{ io.Reader }

func (r *slowReader) Read(p []byte) (int, error) {
	if rand.IntN(4) == 0 {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond) // synctest
	}
	return r.Reader.Read(p)
}

// TestPausedByReads: a writer that waits only for memory of blocks that are being read into goes on
// when these are given back, however long that takes.
func TestPausedByReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(4 << 20)
		others := memory.Join("others", func() {})
		defer others.Leave()
		others.Hold(3 << 20) // there is no share
		client, server := joinClient(t, "a", Config{}, Config{Memory: memory})
		opened, accepted := openPair(t, client, server)
		m := &server.memory
		m.reading.Add(leastSending)
		wrote := make(chan error, 1)
		go func() {
			_, err := accepted.Write([]byte("x"))
			wrote <- err
		}()
		time.Sleep(time.Second) // synctest: the looks at what is free are over
		select {
		case err := <-wrote:
			t.Fatalf("written: %v", err)
		default:
		}
		m.giveBack(leastSending)
		select {
		case err := <-wrote:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Second):
			t.Error("the writer waits for ever")
		}
		opened.Close()
		accepted.Close()
	})
}
