package mux

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
)

func TestDrain(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	drained := make(chan error, 1)
	go func() { drained <- server.Drain(context.Background()) }()
	for { // until the client knows of it
		_, err := client.Ping(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		client.mu.Lock()
		heard := client.streams.draining.theirs
		client.mu.Unlock()
		if heard {
			break
		}
	}
	_, err := client.Open(context.Background(), Target{StreamTCP, "example.test:1"})
	if !isDraining(err) {
		t.Fatalf("open while draining: %v", err)
	}
	a.Write([]byte("still works"))
	a.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != "still works" {
		t.Fatalf("%q, %v", got, err)
	}
	b.Close()
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	server.Close()
	client.Wait()
	var closed *CloseError
	if !errors.As(client.Err(), &closed) || closed.Code != CodeDone {
		t.Fatalf("client's session: %v", client.Err())
	}
}

func TestAcceptAndDrainGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, p := newRawClient(t, Config{}, rawHello)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := server.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accept: %v", err)
		}
		p.send(wireOpen(1))
		synctest.Wait()
		if err := server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain: %v", err)
		}
		p.send(wireOpen(3)) // as it doesn't know yet
		frames := p.quiet()
		if len(ofKind(frames, kindDraining)) != 1 {
			t.Errorf("draining was not said: %v", frames)
		}
		if refused := ofKind(frames, kindRefused); len(refused) != 0 {
			t.Errorf("open before it was heard: %v", refused)
		}
		// The open frame was sent on another carrier before, or was queued: acks go first.
		p.send(wire(kindAck, 0, u64(server.Stats().Sent)))
		p.send(wireOpen(5))
		if refused := ofKind(p.quiet(), kindRefused); len(refused) != 0 {
			t.Errorf("open before the answer: %v", refused)
		}
		p.send(wire(kindDraining, 0), wireOpen(7))
		refused := ofKind(p.quiet(), kindRefused)
		if len(refused) != 1 || refused[0].stream != 7 ||
			string(refused[0].payload) != string(u16(CodeDraining)) {
			t.Errorf("open after the answer: %v", refused)
		}
	})
}

// A node that is told to stop takes the streams that its client had opened before it could hear:
// also those whose open frames arrive on the next carrier, before or after the client has heard,
// and although the node knows of no stream and has no carrier yet.
func TestDrainTakesWhatWasOpened(t *testing.T) {
	for _, c := range []struct {
		name         string
		lost, queued int  // open frames: sent on the carrier that is lost; queued while there is none
		early        bool // the node drains before it loses the carrier
	}{
		{name: "lost with the carrier", lost: 1},
		{name: "queued without a carrier", queued: 1},
		{name: "more than a record of them", lost: 300, queued: 300},
		{name: "drained before the carrier was lost", lost: 300, queued: 300, early: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, HostConfig{}, Config{})
				synctest.Wait()
				open := func(n int) {
					for range n {
						st, err := r.client.OpenAtOnce(Target{StreamTCP, longAddress}, nil)
						if err != nil {
							t.Fatal(err)
						}
						io.WriteString(st, "early")
						t.Cleanup(func() { st.Close() })
					}
				}
				drained := make(chan error, 1)
				drain := func() { drained <- r.server.Drain(context.Background()) }
				if c.early {
					r.far.freeze() // so the client doesn't hear of it
					go drain()
					synctest.Wait()
				}
				r.carrier.broken.Store(true)
				open(c.lost)
				synctest.Wait()
				r.cut()
				open(c.queued)
				if !c.early {
					go drain()
				}
				time.Sleep(drainAway - time.Second) // synctest
				r.resume()
				for range c.lost + c.queued {
					st, err := acceptStream(testnet.Within(t, 10*time.Second), r.server)
					if err != nil {
						t.Fatal(err)
					}
					got := make([]byte, 5)
					if _, err := io.ReadFull(st, got); err != nil || string(got) != "early" {
						t.Errorf("read %q, %v", got, err)
					}
					select {
					case err := <-drained:
						t.Fatalf("drained with a stream open: %v", err)
					default:
					}
					st.Close()
				}
				if err := r.client.AwaitDraining(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := r.client.Open(t.Context(), Target{StreamTCP, "h:1"}); !isDraining(err) {
					t.Errorf("open when it has heard: %v", err)
				}
			})
		})
	}
}

// longAddress makes open frames large.
var longAddress = strings.Repeat("h", maxTarget-2) + ":1"

func isDraining(err error) bool {
	refused, ok := errors.AsType[*OpenError](err)
	return ok && refused.Code == CodeDraining
}

// A session without streams waits a while for the client's answer when the node stops, and no
// longer.
func TestDrainAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rig)
		want time.Duration
	}{
		{"answered", func(*rig) {}, 0},
		{"not answered", func(r *rig) { r.carrier.freeze() }, drainNotice},
		{"no carrier", (*rig).cut, drainAway},
		{"no carrier for long", func(r *rig) {
			r.cut()
			time.Sleep(time.Minute) // synctest
		}, 0},
		{"carrier lost meanwhile", func(r *rig) {
			r.carrier.freeze()
			time.AfterFunc(drainNotice/2, r.cut)
		}, drainNotice/2 + drainAway},
		{"two carriers", func(r *rig) {
			r.carrier.freeze()
			time.AfterFunc(drainNotice/2, func() {
				r.cut()
				r.mute = true
				r.resume()
			})
		}, drainNotice/2 + drainNotice},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, HostConfig{}, Config{})
				c.do(r)
				began := time.Now()
				if err := r.server.Drain(t.Context()); err != nil {
					t.Error(err)
				}
				// A record takes a millisecond, each way.
				if took := time.Since(began); took < c.want || took > c.want+20*time.Millisecond {
					t.Errorf("took %v, want %v", took, c.want)
				}
			})
		})
	}
}

// lostEnd makes sessions that have lost their carrier, and with it 1000 bytes and the end of a
// stream that has ended at the server. The client's is returned.
func lostEnd(t *testing.T, cfg HostConfig) (*rig, *Stream) {
	t.Helper()
	r := newRig(t, cfg, Config{})
	opened, accepted := openPair(t, r.client, r.server)
	opened.CloseWrite()
	if _, err := io.ReadAll(accepted); err != nil {
		t.Fatal(err)
	}
	r.carrier.broken.Store(true) // what follows gets lost
	accepted.Write(make([]byte, 1000))
	accepted.Close()
	synctest.Wait()
	if n := r.server.Stats().Streams; n != 0 {
		t.Fatalf("%d streams are open", n)
	}
	r.cut()
	return r, opened
}

// TestDrainAwaitsAcks: a session whose streams have ended drains until the peer has what they
// carried, also on another carrier; then nobody takes a complete upload for cut.
func TestDrainAwaitsAcks(t *testing.T) {
	t.Run("resumed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, opened := lostEnd(t, HostConfig{})
			drained := make(chan error, 1)
			go func() {
				drained <- r.server.Drain(testnet.Within(t, 30*time.Second))
				r.server.Close()
			}()
			time.Sleep(2 * drainAway) // synctest
			r.resume()
			if got, err := io.ReadAll(opened); len(got) != 1000 || err != nil {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := <-drained; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("abandoned", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := lostEnd(t, HostConfig{ResumeWindow: 20 * time.Second})
			if err := r.server.Drain(testnet.Within(t, time.Minute)); err == nil {
				t.Error("what the client doesn't have counts as delivered")
			}
		})
	})
	t.Run("upload", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, HostConfig{}, Config{})
			opened, accepted := openPair(t, r.client, r.server)
			accepted.CloseWrite()
			if _, err := io.ReadAll(opened); err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, accepted)
			closed := make(chan struct{})
			go func() {
				r.client.Drain(testnet.Within(t, time.Minute))
				r.client.Close()
				close(closed)
			}()
			synctest.Wait()
			opened.Write(make([]byte, 1<<20))
			opened.CloseWrite()
			if err := opened.AwaitSent(testnet.Within(t, time.Minute)); err != nil {
				t.Error(err)
			}
			<-closed
		})
	})
}

// A side that refuses all streams of its peer has none to wait for.
func TestDrainRefusesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{NoIncoming: true})
		r.cut()
		began := time.Now()
		if err := r.client.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// A drain reports the end of its session, if that has cut streams short.
func TestDrainOfEndedSession(t *testing.T) {
	for name, streams := range map[string]int{"none": 0, "one": 1} {
		t.Run(name, func(t *testing.T) {
			client, server := newPair(t, Config{}, Config{})
			for range streams {
				openPair(t, client, server)
			}
			server.Close()
			client.Wait()
			err := client.Drain(t.Context())
			if _, cut := errors.AsType[*SessionError](err); cut != (streams > 0) {
				t.Error(err)
			}
		})
	}
}

// TestDrainExpelled: streams that an expelled session cuts short are no end of a drain.
func TestDrainExpelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		openPair(t, r.client, r.server)
		drained := make(chan error, 1)
		go func() { drained <- r.client.Drain(t.Context()) }()
		synctest.Wait()
		r.client.mu.Lock()
		r.client.expelLocked()
		r.client.mu.Unlock()
		if err := <-drained; !errors.Is(err, ErrMemory) {
			t.Errorf("drained with %v, want %v", err, ErrMemory)
		}
	})
}

// TestDrainUnknown: what had ended, and a server that no longer has the session has not
// acknowledged, is cut short.
func TestDrainUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, accepted := openPair(t, r.client, r.server)
		if err := accepted.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(opened); err != nil {
			t.Fatal(err)
		}
		r.cut()
		r.server.Close()
		if _, err := opened.Write([]byte("the end")); err != nil {
			t.Fatal(err)
		}
		if err := opened.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		drained := make(chan error, 1)
		go func() { drained <- r.client.Drain(t.Context()) }()
		synctest.Wait()
		near, far := newSecurePipe()
		accepts := r.accept(far, owner)
		next, err := r.client.Resume(t.Context(), near)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-drained; err == nil {
			t.Error("drained, though the peer hasn't got the end")
		}
		next.Close()
		(<-accepts).s.Close()
	})
}
