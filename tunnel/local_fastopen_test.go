package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"
)

// startFastOpen is startTunnel with a mode.
func startFastOpen(t *testing.T, mode FastOpen) *Local {
	t.Helper()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	cfg := remote.localConfig(t, key)
	cfg.FastOpen = mode
	local, _ := startLocal(t, cfg)
	return local
}

// passing serves echoes until it is ended; then its address refuses connections.
func passing(t *testing.T) (address string, end func()) {
	t.Helper()
	ln := testnet.Listen(t)
	testnet.Serve(t, ln, func(conn net.Conn) { io.Copy(conn, conn) })
	return ln.Addr().String(), func() { ln.Close() }
}

// outcome reports whether a dial has returned before the answer of the remote, for a target that
// refuses connections.
func outcome(t *testing.T, local *Local, target string) (atOnce bool) {
	t.Helper()
	conn, err := local.DialContext(testnet.Within(t, 10*time.Second), "tcp", target)
	if err == nil {
		atOnce = true
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write([]byte("early"))
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, which is no reset", err)
		}
	}
	var refusal *mux.OpenError
	if !errors.As(err, &refusal) || refusal.Code != mux.CodeRefused {
		t.Errorf("%v, want a refusal", err)
	}
	return atOnce
}

// TestFastOpenModes goes to a target three times: twice while it is there, then when it is gone,
// and once more.
func TestFastOpenModes(t *testing.T) {
	for name, test := range map[string]struct {
		mode FastOpen
		// Whether dials return before the answer: to a target not seen, and to one that is gone.
		unseen, after []bool
	}{
		"auto":   {FastOpenAuto, []bool{false, false}, []bool{true, false}},
		"always": {FastOpenAlways, []bool{true, true}, []bool{true, true}},
		"never":  {FastOpenNever, []bool{false, false}, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			local := startFastOpen(t, test.mode)
			absent, end := passing(t)
			end()
			for i, want := range test.unseen {
				if got := outcome(t, local, absent); got != want {
					t.Errorf("attempt %d at a target not seen: at once %v", i, got)
				}
			}
			target, end := passing(t)
			reached(t, local, target, target)
			end()
			for i, want := range test.after {
				if got := outcome(t, local, target); got != want {
					t.Errorf("attempt %d at a target that is gone: at once %v", i, got)
				}
			}
		})
	}
}

// A confirmation that arrives after a stream was opened at once is remembered like one that was
// waited for.
func TestFastOpenRemembers(t *testing.T) {
	local := startFastOpen(t, FastOpenAuto)
	target := mux.Target{Kind: mux.StreamTCP, Address: testnet.EchoServer(t)}
	conn, err := local.wait(testnet.Within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	reached(t, local, target.Address)
	local.reached.mu.Lock()
	first := local.reached.known[target].Value.(reachedTarget).at
	local.reached.mu.Unlock()
	reached(t, local, target.Address)
	local.reached.mu.Lock()
	second := local.reached.known[target].Value.(reachedTarget).at
	local.reached.mu.Unlock()
	if !second.After(first) {
		t.Error("the second time was not remembered")
	}
	if local.reached.knows(new(mux.Session), target) || !local.reached.knows(conn.session, target) {
		t.Error("the target is not known to its own session alone")
	}
}

func TestReachedTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reachedTargets
		session, next := new(mux.Session), new(mux.Session)
		nth := func(i int) mux.Target {
			return mux.Target{Kind: mux.StreamTCP, Address: fmt.Sprint(i)}
		}
		check := func(when string, s *mux.Session, i int, want bool) {
			t.Helper()
			if r.knows(s, nth(i)) != want {
				t.Errorf("%s: target %d is known: %v", when, i, !want)
			}
		}
		refusal := &mux.OpenError{Code: mux.CodeRefused}
		r.note(session, nth(0), refusal)
		check("after a failure alone", session, 0, false)
		r.note(session, nth(0), nil)
		check("reached", session, 0, true)
		r.note(session, nth(0), refusal)
		check("after a failure", session, 0, false)

		r.note(session, nth(0), nil)
		if r.knows(session, mux.Target{Kind: mux.StreamUnix, Address: "0"}) {
			t.Error("a socket is taken for a port of the same name")
		}
		time.Sleep(reachedLife - time.Second)
		check("just within its time", session, 0, true)
		time.Sleep(time.Second)
		check("after its time", session, 0, false)

		for i := range maxReached {
			r.note(session, nth(i), nil)
		}
		r.note(session, nth(0), nil) // again
		r.note(session, nth(maxReached), nil)
		check("reached again", session, 0, true)
		check("the oldest", session, 1, false)
		check("the second", session, 2, true)
		check("the newest", session, maxReached, true)
		if len(r.known) != maxReached || r.order.Len() != maxReached {
			t.Errorf("%d and %d entries", len(r.known), r.order.Len())
		}

		check("in another session", next, 0, false)
		r.note(next, nth(1), refusal)
		check("after another session's failure", session, 0, true)
		r.note(next, nth(1), nil)
		check("of the session before", session, 0, false)
		check("in the present one", next, 1, true)
		if len(r.known) != 1 || r.order.Len() != 1 {
			t.Errorf("%d and %d entries", len(r.known), r.order.Len())
		}
	})
}

// The client of a forward that was opened at once sees a reset when the target is gone, whatever it
// has sent.
func TestFastOpenForwardResets(t *testing.T) {
	local := startFastOpen(t, FastOpenAlways)
	absent, end := passing(t)
	end()
	forward := startForward(t, local, absent)
	// The system reports the reset once, in whichever call comes next.
	reset := func(err error) bool {
		return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	}
	for name, act := range map[string]func(*net.TCPConn) error{
		"silent": func(*net.TCPConn) error { return nil },
		"data": func(conn *net.TCPConn) error {
			_, err := conn.Write([]byte("early"))
			return err
		},
		"half-closed": func(conn *net.TCPConn) error {
			if _, err := conn.Write([]byte("early")); err != nil {
				return err
			}
			return conn.CloseWrite()
		},
		"bulk": func(conn *net.TCPConn) error {
			_, err := conn.Write(make([]byte, 1<<20))
			return err
		},
	} {
		conn, err := net.Dial("tcp", forward)
		if reset(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err = act(conn.(*net.TCPConn)); err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if !reset(err) && !errors.Is(err, syscall.ENOTCONN) { // a half-close after it
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
	}
}

// With standard input and output, what is written ahead of the answer arrives, and a refusal is an
// error.
func TestFastOpenStdio(t *testing.T) {
	local := startFastOpen(t, FastOpenAlways)
	content := randomBytes(t, 1<<20)
	var got closeBuffer
	echo := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		io.Copy(conn, conn)
		conn.CloseWrite()
	})
	ctx := testnet.Within(t, 10*time.Second)
	err := local.Stdio(ctx, echo, io.NopCloser(bytes.NewReader(content)), &got, nil)
	if err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	absent, end := passing(t)
	end()
	var refusal *mux.OpenError
	in := io.NopCloser(bytes.NewReader(content))
	err = local.Stdio(testnet.Within(t, 10*time.Second), absent, in, &closeBuffer{}, nil)
	if !errors.As(err, &refusal) || refusal.Code != mux.CodeRefused ||
		err.Error() != "connection refused" {
		t.Errorf("%v", err)
	}
}

type closeBuffer struct{ bytes.Buffer }

func (*closeBuffer) Close() error { return nil }
