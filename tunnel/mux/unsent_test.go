package mux

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnsent ends streams that were opened at once. Only of those of which the peer can have got
// nothing is what was written known.
func TestUnsent(t *testing.T) {
	lose := func(r *rig, st *Stream) {
		r.cut()
		r.client.Close()
	}
	for name, test := range map[string]struct {
		before, away string // written while there is a carrier, and while there is none
		end          func(*rig, *Stream)
		want         string
		ok           bool
	}{
		"nothing written":     {"", "", lose, "", true},
		"written without one": {"", "early", lose, "early", true},
		"too much": {"", strings.Repeat("x", maxUnsent+1), func(r *rig, st *Stream) {
			r.client.Close()
		}, "", false},
		"sent":           {"early", "", lose, "", false},
		"sent, and more": {"early", "more", lose, "", false},
		"reset": {"", "early", func(r *rig, st *Stream) {
			r.client.ResetUnconfirmed()
		}, "early", true},
		"refused": {"", "early", func(r *rig, st *Stream) {
			r.resume()
			in, err := r.server.Accept(context.Background())
			if err != nil {
				r.t.Fatal(err)
			}
			in.(*IncomingStream).Refuse(CodeRefused, "")
			st.Read(make([]byte, 1))
		}, "", false},
		"confirmed": {"", "early", func(r *rig, st *Stream) {
			r.resume()
			if _, err := acceptStream(context.Background(), r.server); err != nil {
				r.t.Fatal(err)
			}
			synctest.Wait() // until the answer has come
			lose(r, st)
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, HostConfig{}, Config{})
				st, err := r.client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(st, test.before)
				synctest.Wait()
				r.cut()
				io.WriteString(st, test.away)
				if _, ok := st.Unsent(); ok {
					t.Error("unsent before its end")
				}
				test.end(r, st)
				if got, ok := st.Unsent(); string(got) != test.want || ok != test.ok {
					t.Errorf("%d bytes, %v", len(got), ok)
				}
				st.Close()
				r.client.mu.Lock()
				defer r.client.mu.Unlock()
				if held := st.send.queue.mem; held != 0 {
					t.Errorf("%d bytes are held", held)
				}
			})
		})
	}
}

// What ReadFrom has read when the stream ends is not lost.
func TestUnsentOfReadFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		st, err := r.client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(st, "early, ")
		source, sink := io.Pipe()
		copied := make(chan error, 1)
		go func() {
			_, err := st.ReadFrom(source)
			copied <- err
		}()
		synctest.Wait()
		r.client.Close()
		io.WriteString(sink, "late")
		var lost *SessionError
		if err := <-copied; !errors.As(err, &lost) {
			t.Errorf("copied: %v", err)
		}
		if got, ok := st.Unsent(); string(got) != "early, late" || !ok {
			t.Errorf("%q, %v", got, ok)
		}
		if stats := r.client.Stats(); stats.Queued != 0 {
			t.Errorf("%d bytes are held", stats.Queued)
		}
		st.Close()
	})
}

// TestResetUnconfirmed resets the streams of which the peer has not said that they are open, if
// their users do not wait for that.
func TestResetUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		atOnce := func() *Stream {
			st, err := r.client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		confirmed := atOnce()
		far, err := acceptStream(context.Background(), r.server)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the answer has come
		r.cut()
		unconfirmed := atOnce()
		opened := make(chan error, 1)
		go func() {
			st, err := r.client.Open(context.Background(), Target{StreamTCP, "h:1"})
			if err == nil {
				st.Close()
			}
			opened <- err
		}()
		synctest.Wait()
		if n := r.client.ResetUnconfirmed(); n != 1 {
			t.Errorf("%d streams were reset, want 1", n)
		}
		if _, err := unconfirmed.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		unconfirmed.Close()
		r.resume()
		go func() { // the one that was reset may come first
			for {
				in, err := r.server.Accept(context.Background())
				if err != nil {
					return
				}
				if st, err := in.(*IncomingStream).Confirm(); err == nil {
					st.Close()
				}
			}
		}()
		if err := <-opened; err != nil {
			t.Errorf("the one that waited: %v", err)
		}
		go io.WriteString(far, "on")
		got := make([]byte, 2)
		if _, err := io.ReadFull(confirmed, got); err != nil || string(got) != "on" {
			t.Errorf("the confirmed one: %q, %v", got, err)
		}
		confirmed.Close()
		far.Close()
	})
}

// TestResponsive: a peer that owes no answer seems to be there, and so does one that has just been
// asked; one that is silent for longer than an answer takes does not, until it answers.
func TestResponsive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		rtt := r.measure(50 * time.Millisecond)
		check := func(when string, want bool) {
			t.Helper()
			if got := r.client.Responsive(); got != want {
				t.Errorf("%s: %v", when, got)
			}
		}
		time.Sleep(10 * time.Second)
		check("idle", true)
		thaw := r.far.freeze()
		st, err := r.client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*rtt + overdueTime - 20*time.Millisecond)
		check("asked", true)
		time.Sleep(40 * time.Millisecond)
		check("silent", false)
		thaw()
		time.Sleep(time.Second)
		check("answered", true)
		r.cut()
		check("away", false)
		st.Close()
	})
}
