package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// frozenTimes is how often TestFrozenEnd runs each case.
const frozenTimes = 20

// TestFrozenEnd stops what one end sends for a while, as a suspended machine or a stopped process
// does, and resumes the session if that cost it its carrier. A ping that came meanwhile must not be
// answered on the next carrier, where its peer would take that for the answer to another.
func TestFrozenEnd(t *testing.T) {
	for _, end := range []string{"client", "server"} {
		for _, load := range []bool{false, true} {
			for _, d := range []time.Duration{5 * time.Second, 30 * time.Second, 100 * time.Second} {
				t.Run(fmt.Sprintf("%s/load=%v/%v", end, load, d), func(t *testing.T) {
					for range frozenTimes { // the freeze begins elsewhere each time
						synctest.Test(t, func(t *testing.T) { runFreeze(t, end, load, d) })
					}
				})
			}
		}
	}
}

func runFreeze(t *testing.T, end string, load bool, d time.Duration) {
	r := newRig(t, HostConfig{}, Config{})
	frozen, carrier := r.client, r.carrier
	if end == "server" {
		frozen, carrier = r.server, r.far
	}
	// Without load, its own ping is what hangs when the other end's arrives.
	frozen.mu.Lock()
	frozen.cfg.Keepalive -= time.Second
	frozen.mu.Unlock()
	opened, accepted := openPair(t, r.client, r.server)
	content := [2][]byte{randomBytes(t, 1<<20), randomBytes(t, 1<<20)}
	ends := [2]*Stream{opened, accepted}
	send := make(chan struct{})
	var users sync.WaitGroup
	for i, st := range ends {
		users.Go(func() {
			<-send
			if _, err := st.Write(content[i]); err != nil {
				t.Error(err)
			}
			st.CloseWrite()
		})
		users.Go(func() {
			if got, err := io.ReadAll(st); err != nil || !bytes.Equal(got, content[1-i]) {
				t.Errorf("%d bytes of %d, %v", len(got), len(content[1-i]), err)
			}
		})
	}
	if load {
		close(send)
		time.Sleep(time.Millisecond + mathrand.N(9*time.Millisecond)) // synctest: in the middle of it
	}
	if !load {
		time.Sleep(time.Second) // synctest: all is acknowledged
	}
	thaw := carrier.freeze()
	time.Sleep(d) // synctest
	thaw()
	synctest.Wait()
	if r.client.Stats().Away != r.server.Stats().Away {
		t.Error("one end has lost its carrier, the other has not")
	}
	if r.client.Stats().Away {
		r.resume()
	}
	time.Sleep(time.Second) // synctest: the session is idle
	if !load {
		close(send)
	}
	users.Wait()
	for _, s := range []*Session{r.client, r.server} {
		if _, err := s.Ping(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Err(); err != nil {
			t.Errorf("the session ended with %v", err)
		}
	}
}

// TestRepeatedPong: a pong that comes twice, one that is late and one to a ping of an earlier
// carrier change nothing. One that answers a ping which has yet to be sent is in TestViolations.
func TestRepeatedPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{Keepalive: -1})
		ping := func() time.Duration {
			t.Helper()
			rtt, err := r.server.Ping(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return rtt
		}
		want := ping()
		if _, err := r.server.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
		pong := func(token uint64) {
			t.Helper()
			r.carrier.WriteRecords(appendUint64Frame(nil, kindPong, 0, token))
			time.Sleep(time.Minute) // synctest
			if err := r.server.Err(); err != nil {
				t.Fatalf("the session ended with %v", err)
			}
			if got := lastRTT(r.server); got != want {
				t.Errorf("round trip of %v, want %v", got, want)
			}
		}
		pong(2)
		pong(1)
		r.cut()
		r.resume()
		if got := ping(); got < want { // the carrier begins with a ping, too
			t.Errorf("round trip of %v, at least %v possible", got, want)
		}
		if got := ping(); got != want {
			t.Errorf("round trip of %v, want %v", got, want)
		}
		pong(2)
		if got := ping(); got != want {
			t.Errorf("round trip of %v, want %v", got, want)
		}
	})
}

// TestRepeatedAck: an ack that comes twice or late changes nothing. One of more than was sent is in
// TestViolations.
func TestRepeatedAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newRawClient(t, Config{}, rawHello)
		st := p.accept(s, 1)
		go st.Write(make([]byte, 100))
		p.until(kindData)
		for _, position := range []uint64{headerSize, headerSize, 0, 1, headerSize} {
			p.send(wire(kindAck, 0, u64(position)))
			p.quiet()
			if got := s.Stats().Acknowledged; got != headerSize || s.Err() != nil {
				t.Fatalf("after an ack of %d: %d acknowledged, %v", position, got, s.Err())
			}
		}
		p.send(wire(kindAck, 0, u64(s.Stats().Sent)))
		p.quiet()
		if stats := s.Stats(); stats.Acknowledged != stats.Sent {
			t.Errorf("%d acknowledged of %d", stats.Acknowledged, stats.Sent)
		}
	})
}

// TestRoundTripsAreTheCarriers: a round trip that a freeze has stretched makes no end patient with
// the next carrier, and a carrier that dies with the first frame after its hellos is noticed soon,
// too: its ends have pinged. Pings that cross are signs of life, so neither may have left.
func TestRoundTripsAreTheCarriers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		openPair(t, r.client, r.server)
		for _, s := range []*Session{r.client, r.server} { // the pong is late by a minute
			s.mu.Lock()
			s.link.onRTTSampleLocked(time.Minute)
			s.mu.Unlock()
		}
		r.cut()
		r.resume()
		time.Sleep(time.Second) // synctest: the carrier's own round trip is measured
		r.carrier.freeze()
		r.far.freeze()
		frozen := time.Now()
		for _, s := range []*Session{r.client, r.server} {
			s.Probe()
		}
		for _, s := range []*Session{r.client, r.server} {
			if err := s.AwaitLoss(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(frozen); took > probePatience {
			t.Errorf("noticed after %v", took)
		}
		r.mute = true
		r.resume()
		frozen = time.Now()
		for _, s := range []*Session{r.client, r.server} {
			if err := s.AwaitLoss(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(frozen); took > DefaultPatience {
			t.Errorf("after a resumption noticed after %v", took)
		}
	})
}

// TestAbandonTooLate: the window of a loss that another carrier has ended does not end the session.
func TestAbandonTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		r.server.mu.Lock()
		since := r.server.lost.since
		r.server.mu.Unlock()
		late := errors.New("too late")
		time.Sleep(time.Second) // synctest
		r.resume()
		r.server.abandon(since, late)
		r.cut()
		r.server.abandon(since, late)
		if err := r.server.Err(); err != nil {
			t.Fatalf("ended with %v", err)
		}
		r.server.abandon(time.Now(), late)
		if err := r.server.Err(); err != late {
			t.Errorf("ended with %v, want %v", err, late)
		}
	})
}
