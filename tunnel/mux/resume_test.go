package mux

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/mux/budget"
)

// securePipe is a pipeCarrier whose ends share a secret, as the ends of a secured connection do.
// When it breaks, what is on its way is lost.
type securePipe struct {
	*pipeCarrier
	secret []byte
	broken *atomic.Bool
	delay  time.Duration                  // of each record: some are on their way when it breaks
	frozen *atomic.Pointer[chan struct{}] // while it is set, this end's writes wait; closed to go on
	mute   bool                           // it freezes once it has sent the hello, its first write
}

// freeze stops what this end sends until thaw is called or the carrier ends.
func (p *securePipe) freeze() (thaw func()) {
	c := make(chan struct{})
	p.frozen.Store(&c)
	return func() {
		p.frozen.Store(nil)
		close(c)
	}
}

func (p *securePipe) WriteRecords(records ...[]byte) error {
	if c := p.frozen.Load(); c != nil {
		select {
		case <-*c:
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	if p.mute {
		defer func() { p.freeze() }()
	}
	return p.pipeCarrier.WriteRecords(records...)
}

func (p *securePipe) ReadRecord(buf []byte) ([]byte, error) {
	b, err := p.pipeCarrier.ReadRecord(buf)
	if p.delay > 0 {
		time.Sleep(p.delay) // synctest
	}
	if p.broken.Load() {
		return nil, io.ErrUnexpectedEOF
	}
	return b, err
}

func newSecurePipe() (a, b *securePipe) {
	x, y := newPipe()
	secret := make([]byte, 32)
	rand.Read(secret)
	broken := new(atomic.Bool)
	end := func(pipe *pipeCarrier) *securePipe {
		return &securePipe{
			pipeCarrier: pipe, secret: secret, broken: broken, delay: time.Millisecond,
			frozen: new(atomic.Pointer[chan struct{}]),
		}
	}
	return end(x), end(y)
}

func (p *securePipe) Export(label string, context []byte, n int) ([]byte, error) {
	mac := hmac.New(sha256.New, p.secret)
	mac.Write([]byte(label))
	mac.Write([]byte{0})
	mac.Write(context)
	return mac.Sum(nil)[:n], nil
}

// rig is a host and a client's session with it.
type rig struct {
	t              testing.TB
	host           *Host
	cfg            Config // of both ends
	client, server *Session
	carrier, far   *securePipe   // the client's and the server's end of the present one
	delay          time.Duration // of each record on the next carriers; 0 for a millisecond
	mute           bool          // the next carriers carry the hellos and nothing more
}

const owner = "the client"

func newRig(t testing.TB, hostCfg HostConfig, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, host: NewHost(hostCfg), cfg: cfg}
	near, far := newSecurePipe()
	accepted := r.accept(far, owner)
	var err error
	if r.client, err = NewClient(context.Background(), near, cfg); err != nil {
		t.Fatal(err)
	}
	a := <-accepted
	if a.err != nil || a.resumed {
		t.Fatalf("accept: resumed %v, %v", a.resumed, a.err)
	}
	r.server, r.carrier, r.far = a.s, near, far
	t.Cleanup(func() {
		r.client.Close()
		r.server.Close()
	})
	return r
}

type acceptance struct {
	s       *Session
	resumed bool
	err     error
}

// accept passes a carrier to the host.
func (r *rig) accept(far *securePipe, owner string) <-chan acceptance {
	return r.acceptPeer(far, Peer{Identity: owner})
}

func (r *rig) acceptPeer(far *securePipe, peer Peer) <-chan acceptance {
	accepted := make(chan acceptance, 1)
	go func() {
		s, resumed, err := r.host.Accept(context.Background(), far, r.cfg, peer)
		accepted <- acceptance{s, resumed, err}
	}()
	return accepted
}

// cut ends the present carrier, and waits until both ends have noticed.
func (r *rig) cut() {
	r.t.Helper()
	r.carrier.broken.Store(true)
	r.carrier.Close()
	for _, s := range []*Session{r.client, r.server} {
		if err := s.AwaitLoss(context.Background()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// resume gives the session another carrier.
func (r *rig) resume() {
	r.t.Helper()
	near, far := newSecurePipe()
	if r.delay > 0 {
		near.delay, far.delay = r.delay, r.delay
	}
	near.mute, far.mute = r.mute, r.mute
	accepted := r.accept(far, owner)
	s, err := r.client.Resume(context.Background(), near)
	a := <-accepted
	if err != nil || a.err != nil || s != r.client || !a.resumed || a.s != r.server {
		r.t.Fatalf("resume: %v; accept: resumed %v, %v", err, a.resumed, a.err)
	}
	r.carrier, r.far = near, far
}

func TestResumeLosesAndRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, accepted := openPair(t, r.client, r.server)
		up, down := randomBytes(t, 3<<20), randomBytes(t, 3<<20)
		var wg sync.WaitGroup
		for _, way := range []struct {
			from, to *Stream
			content  []byte
		}{{opened, accepted, up}, {accepted, opened, down}} {
			wg.Go(func() {
				for rest := way.content; len(rest) > 0; rest = rest[min(len(rest), 10_007):] {
					if _, err := way.from.Write(rest[:min(len(rest), 10_007)]); err != nil {
						t.Error(err)
						return
					}
				}
				way.from.CloseWrite()
			})
			wg.Go(func() {
				buf, got := make([]byte, 7_001), []byte(nil)
				for {
					n, err := way.to.Read(buf)
					got = append(got, buf[:n]...)
					if err == io.EOF {
						break
					} else if err != nil {
						t.Error(err)
						return
					}
				}
				if !bytes.Equal(got, way.content) {
					t.Errorf("%d bytes of %d arrived, or others", len(got), len(way.content))
				}
			})
		}
		for range 10 {
			time.Sleep(7 * time.Millisecond) // synctest
			r.cut()
			time.Sleep(7 * time.Millisecond) // synctest
			r.resume()
		}
		wg.Wait()
		waitStreams(t, r.client, 0)
		waitStreams(t, r.server, 0)
		time.Sleep(time.Second) // synctest
		for _, s := range []*Session{r.client, r.server} {
			if st := s.Stats(); st.Resent == 0 || st.Retained != 0 || st.Sent != st.Acknowledged {
				t.Errorf("stats %+v", st)
			}
		}
	})
}

// TestNewestCarrierWins resumes while the old carrier still works: the old one is detached.
func TestNewestCarrierWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, accepted := openPair(t, r.client, r.server)
		old := r.carrier
		r.resume()
		synctest.Wait()
		if !isClosed(old.pipeCarrier) {
			t.Error("the old carrier is open")
		}
		opened.Write([]byte("on the new one"))
		opened.Close()
		if got, err := io.ReadAll(accepted); err != nil || string(got) != "on the new one" {
			t.Errorf("%q, %v", got, err)
		}
		accepted.Close()
	})
}

// TestResumeAttackers: an attacker with the session's id but not its key, another client, and a
// replayed hello are refused as if the session did not exist, and it is not affected.
func TestResumeAttackers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, accepted := openPair(t, r.client, r.server)
		near, _ := newSecurePipe()
		genuine, err := func() (hello, error) {
			r.client.mu.Lock()
			defer r.client.mu.Unlock()
			h := r.client.hello()
			h.id = r.client.resumption.id
			proof, err := r.client.resumption.proof(near, roleClient)
			h.proof = proof
			return h, err
		}()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name  string
			owner string
			hello func(carrier *securePipe) hello
		}{
			{"the id alone", owner, func(*securePipe) hello {
				h := genuine
				h.proof = [proofSize]byte{}
				return h
			}},
			{"a replayed hello", owner, func(*securePipe) hello { return genuine }},
			{"another client", "somebody else", func(carrier *securePipe) hello {
				h := genuine
				h.proof, _ = r.client.resumption.proof(carrier, roleClient)
				return h
			}},
			{"the server's proof sent back", owner, func(carrier *securePipe) hello {
				h := genuine
				h.proof, _ = r.client.resumption.proof(carrier, roleServer)
				return h
			}},
			{"an unknown id", owner, func(*securePipe) hello { h := genuine; h.id[0] ^= 1; return h }},
		} {
			near, far := newSecurePipe()
			got := r.accept(far, c.owner)
			near.WriteRecords(appendHello(nil, c.hello(near)))
			answer, err := readHello(near, roleServer)
			a := <-got
			if err != nil || a.err != nil || a.resumed || a.s == r.server || answer.id == genuine.id {
				t.Errorf("%s: resumed %v, %v, %v", c.name, a.resumed, err, a.err)
			}
			a.s.Close()
		}
		opened.Write([]byte("unharmed"))
		opened.Close()
		if got, err := io.ReadAll(accepted); err != nil || string(got) != "unharmed" ||
			r.server.Stats().Away {
			t.Errorf("%q, %v", got, err)
		}
		accepted.Close()
	})
}

// TestFalseServer answers a resumption without the session's key.
func TestFalseServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		near, far := newSecurePipe()
		go func() {
			offer, _ := readHello(far, roleClient)
			h := rawHello
			h.role, h.id, h.proof = roleServer, offer.id, offer.proof
			far.WriteRecords(appendHello(nil, h))
		}()
		if _, err := r.client.Resume(context.Background(), near); err == nil {
			t.Fatal("a server without the session was believed")
		}
		r.resume() // and the session can still be resumed
	})
}

func TestImpossiblePositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		near, far := newSecurePipe()
		got := r.accept(far, owner)
		h := r.client.hello()
		h.id, h.receivePosition = r.client.resumption.id, 1<<40
		h.proof, _ = r.client.resumption.proof(near, roleClient)
		near.WriteRecords(appendHello(nil, h))
		var breach *ProtocolError
		if a := <-got; !errors.As(a.err, &breach) {
			t.Fatalf("accept: %v", a.err)
		}
		r.resume()

		// One from before, which came late, doesn't take the present carrier away.
		opened, accepted := openPair(t, r.client, r.server)
		near, far = newSecurePipe()
		got = r.accept(far, owner)
		r.client.mu.Lock()
		h = r.client.hello()
		h.id, h.receivePosition = r.client.resumption.id, r.client.received
		r.client.mu.Unlock()
		r.server.mu.Lock()
		h.sendPosition = r.server.received - 1
		r.server.mu.Unlock()
		h.proof, _ = r.client.resumption.proof(near, roleClient)
		near.WriteRecords(appendHello(nil, h))
		if a := <-got; !errors.As(a.err, &breach) {
			t.Errorf("accept of a hello from before: %v", a.err)
		}
		checkEcho(t, opened, accepted)
	})
}

// checkEcho checks that a stream works in both directions.
func checkEcho(t *testing.T, a, b *Stream) {
	t.Helper()
	for range 2 {
		if _, err := a.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "ping" {
			t.Fatalf("%q, %v", got, err)
		}
		a, b = b, a
	}
}

// TestResumeElsewhere: a session that has a carrier keeps it, and all streams, when the server on
// another one doesn't have the session, refuses it, or says nothing.
func TestResumeElsewhere(t *testing.T) {
	full := &RefusedError{Code: CodeFull}
	for name, test := range map[string]struct {
		peer *Peer // of the other host; nil for none
		want error
	}{
		"unknown": {&Peer{Identity: owner}, ErrElsewhere},
		"refused": {&Peer{Identity: owner, Admit: func(*Session) error { return full }}, full},
		"silent":  {nil, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, HostConfig{}, Config{})
				opened, accepted := openPair(t, r.client, r.server)
				near, far := newSecurePipe()
				answered := make(chan acceptance, 1)
				if test.peer == nil {
					close(answered)
				} else {
					go func() {
						s, resumed, err := NewHost(HostConfig{}).Accept(t.Context(), far, r.cfg, *test.peer)
						answered <- acceptance{s, resumed, err}
					}()
				}
				got := make(chan error, 1)
				go func() {
					_, err := r.client.Resume(t.Context(), near)
					got <- err
				}()
				checkEcho(t, opened, accepted) // as soon as the attempt is over
				err := <-got
				var refused *RefusedError
				if !errors.Is(err, test.want) && !(errors.As(err, &refused) && refused.Code == full.Code &&
					test.want == full) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				checkEcho(t, accepted, opened)
				if stats := r.client.Stats(); stats.Away || r.client.LossCause() != nil {
					t.Errorf("%+v, %v", stats, r.client.LossCause())
				}
				if a := <-answered; a.s != nil {
					synctest.Wait()
					if a.s.Err() == nil {
						t.Error("the other server keeps a session that nobody has")
					}
					a.s.Close()
				}
			})
		})
	}
}

// TestLostAtTheServer: a server that no longer has the session starts another on the same carrier;
// the streams of the old one are cut short.
func TestLostAtTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, _ := openPair(t, r.client, r.server)
		r.cut()
		r.server.Close()
		near, far := newSecurePipe()
		accepted := r.accept(far, owner)
		next, err := r.client.Resume(context.Background(), near)
		a := <-accepted
		if err != nil || a.err != nil || next == r.client || a.resumed {
			t.Fatalf("resume: %v; accept: resumed %v, %v", err, a.resumed, a.err)
		}
		if _, err := opened.Read(make([]byte, 1)); !errors.Is(err, ErrSessionUnknown) {
			t.Errorf("a stream of the lost session: %v", err)
		}
		x, y := openPair(t, next, a.s)
		x.Reset(CodeAborted)
		if _, err := y.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		y.Close()
		next.Close()
		a.s.Close()
	})
}

// TestAbandonedSession: a session that is not resumed ends after its window, at both ends, and
// holds nothing.
func TestAbandonedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 30 * time.Second
		r := newRig(t, HostConfig{ResumeWindow: window}, Config{})
		opened, accepted := openPair(t, r.client, r.server)
		r.cut()
		began := time.Now()
		go opened.Write(make([]byte, 10<<20))
		for _, s := range []*Session{r.client, r.server} {
			var abandoned *AbandonedError
			if err := s.Wait(); !errors.As(err, &abandoned) || time.Since(began) != window {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			if st := s.Stats(); st.Retained != 0 || st.Streams != 0 {
				t.Errorf("stats %+v", st)
			}
		}
		if _, err := accepted.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read: %v", err)
		}
		synctest.Wait()
		r.host.mu.Lock()
		defer r.host.mu.Unlock()
		if len(r.host.sessions) != 0 {
			t.Error("the host still has the session")
		}
	})
}

// ownedRig makes a session of an owner with a host, which the caller has to close.
func ownedRig(t *testing.T, host *Host, of string) *rig {
	t.Helper()
	r := &rig{t: t, host: host}
	near, far := newSecurePipe()
	accepted := r.acceptPeer(far, Peer{Identity: owner, Owner: of})
	var err error
	if r.client, err = NewClient(context.Background(), near, Config{}); err != nil {
		t.Fatal(err)
	}
	r.server, r.carrier = (<-accepted).s, near
	return r
}

func TestTooManyAway(t *testing.T) {
	for _, tt := range []struct {
		name   string
		owners []string
		dead   []bool
	}{
		{"of one client", []string{"a", "a", "a", "a", "a"}, []bool{true, true, false, false, false}},
		{"of several", []string{"a", "b", "c", "b", "b"}, []bool{false, true, false, true, false}},
	} {
		synctest.Test(t, func(t *testing.T) {
			host := NewHost(HostConfig{MaxAway: 3})
			var rigs []*rig
			for _, of := range tt.owners {
				rigs = append(rigs, ownedRig(t, host, of))
			}
			for _, r := range rigs {
				r.carrier.Close()
				time.Sleep(time.Second) // synctest
			}
			var dead []bool
			for _, r := range rigs {
				dead = append(dead, r.server.Err() != nil)
				r.server.Close()
				r.client.Close()
			}
			if !slices.Equal(dead, tt.dead) {
				t.Errorf("%s: dead: %v", tt.name, dead)
			}
		})
	}
}

// Many sessions that lose their carriers at once are bounded as those that lose them in turn.
func TestTooManyAwayAtOnce(t *testing.T) {
	const all, most = 400, 3
	host := NewHost(HostConfig{MaxAway: most})
	rigs := make([]*rig, all)
	for i := range rigs {
		rigs[i] = ownedRig(t, host, strconv.Itoa(i%5))
		defer rigs[i].server.Close()
		defer rigs[i].client.Close()
	}
	var closing sync.WaitGroup
	for _, r := range rigs {
		closing.Go(func() { r.carrier.Close() })
	}
	closing.Wait()
	testnet.Poll(t, time.Minute, "all but those that may be away have ended", func() bool {
		n := 0
		for _, r := range rigs {
			if r.server.Err() == nil {
				n++
			}
		}
		return n == most
	})
}

// All sessions that there may be lose their carriers at once, as when a load balancer restarts, and
// none ends until its window has passed.
func TestAllAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 300
		host := NewHost(HostConfig{MaxAway: all})
		rigs := make([]*rig, all)
		for i := range rigs {
			rigs[i] = ownedRig(t, host, strconv.Itoa(i%3))
		}
		for _, r := range rigs {
			r.carrier.Close()
		}
		time.Sleep(DefaultResumeWindow - time.Second) // synctest
		for i, r := range rigs {
			if err := r.server.Err(); err != nil || !r.server.Stats().Away {
				t.Errorf("session %d: %v, away: %v", i, err, r.server.Stats().Away)
			}
			r.server.Close()
			r.client.Close()
		}
	})
}

// A client that is refused learns of it in place of the hello, also when it wants to resume a
// session that the host no longer has.
func TestRefusedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		opened, _ := openPair(t, r.client, r.server)
		r.cut()
		r.server.Close()
		want := RefusedError{CodeShare, "limit of 1"}
		for _, begin := range []func(Carrier) (*Session, error){
			func(c Carrier) (*Session, error) {
				return NewClient(context.Background(), c, Config{})
			},
			func(c Carrier) (*Session, error) { return r.client.Resume(context.Background(), c) },
		} {
			near, far := newSecurePipe()
			var asked *Session
			accepted := r.acceptPeer(far, Peer{Identity: owner, Admit: func(s *Session) error {
				asked = s
				return &want
			}})
			session, err := begin(near)
			var refused *RefusedError
			if !errors.As(err, &refused) || *refused != want || session != nil {
				t.Errorf("the client: %v, %v", session, err)
			}
			if a := <-accepted; !errors.As(a.err, &refused) || asked.Err() == nil {
				t.Errorf("the server: %v, its session: %v", a.err, asked.Err())
			}
		}
		if _, err := opened.Read(make([]byte, 1)); !errors.Is(err, ErrSessionUnknown) {
			t.Errorf("a stream of the session that is gone: %v", err)
		}
		if len(r.host.sessions) != 0 {
			t.Error("the host has a session that it refused")
		}
	})
}

// A session that is closed as soon as it is admitted does not begin.
func TestClosedWhenAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, host: NewHost(HostConfig{})}
		near, far := newSecurePipe()
		accepted := r.acceptPeer(far, Peer{Identity: owner, Admit: func(s *Session) error {
			s.BeginClose(CodeNotAllowed, "")
			return nil
		}})
		if client, err := NewClient(context.Background(), near, Config{}); err == nil {
			client.Close()
		}
		if a := <-accepted; a.err == nil {
			t.Error("the session began")
		}
	})
}

// TestRetentionIsBounded uploads while the peer reads but acknowledges nothing, and while there is
// no carrier.
func TestRetentionIsBounded(t *testing.T) {
	const most = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		memory := budget.New(64 << 20)
		r := newRig(t, HostConfig{}, Config{MaxRetained: most, Window: 8 << 20, Memory: memory,
			Patience: time.Hour})
		opened, accepted := openPair(t, r.client, r.server)
		const size = 20 << 20
		var upload sync.WaitGroup
		upload.Go(func() {
			if _, err := opened.Write(make([]byte, size)); err != nil {
				t.Error(err)
			}
			opened.CloseWrite()
		})
		for range 5 {
			r.cut()
			synctest.Wait()
			mine, theirs := r.client.Stats(), r.server.Stats()
			if retained := mine.Retained + theirs.Retained; mine.Retained > most+2*maxRecord ||
				retained > 2*(most+2*maxRecord) {
				t.Fatalf("%d bytes retained, %d by both", mine.Retained, retained)
			}
			counted := int64(holds(mine) + holds(theirs))
			if held := memory.Held(); held < counted || held > counted+4*64<<10 {
				t.Fatalf("%d bytes held, %d of the budget", counted, held)
			}
			r.resume()
		}
		if n, err := io.Copy(io.Discard, accepted); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		upload.Wait()
		opened.Close()
		accepted.Close()
		time.Sleep(time.Second) // synctest
		if held := memory.Held(); held != 0 {
			t.Errorf("%d bytes of the budget still held", held)
		}
	})
}

// holds returns the memory that a session holds, in bytes.
func holds(s Stats) int { return s.Retained + s.Queued + s.Buffered }

// TestOpenWhileAway: what is opened and written while there is no carrier is sent on the next one.
func TestOpenWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := r.client.Open(ctx, Target{StreamTCP, "example.test:1"})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open without a carrier: %v", err)
		}
		cancel()
		opened := make(chan *Stream, 1)
		go func() {
			st, err := r.client.Open(context.Background(), Target{StreamTCP, "example.test:2"})
			if err != nil {
				t.Error(err)
			}
			opened <- st
		}()
		synctest.Wait()
		r.resume()
		for { // the first was cancelled
			in, err := r.server.Accept(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			st, err := in.(*IncomingStream).Confirm()
			if err == nil && st.Target().Address == "example.test:2" {
				st.Close()
				break
			}
		}
		(<-opened).Close()
	})
}

func TestCloseWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		began := time.Now()
		r.client.Close()
		r.server.Close()
		if took := time.Since(began); took > time.Millisecond {
			t.Errorf("closing took %v", took)
		}
	})
}

// cancellingCarrier ends a context once it has brought the first record.
type cancellingCarrier struct {
	*securePipe
	cancel context.CancelFunc
}

func (c *cancellingCarrier) ReadRecord(buf []byte) ([]byte, error) {
	record, err := c.securePipe.ReadRecord(buf)
	c.cancel()
	return record, err
}

// When the time for the hellos ends just as a session begins, nobody has that session, so it must
// not wait for another carrier.
func TestSessionBeginsTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newSecurePipe()
		host := NewHost(HostConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		accepted := make(chan error, 1)
		go func() {
			_, _, err := host.Accept(ctx, &cancellingCarrier{far, cancel}, Config{}, Peer{Identity: owner})
			accepted <- err
		}()
		near.WriteRecords(appendHello(nil, hello{role: roleClient, maxRecord: MaxRecordSize,
			firstCredit: DefaultWindow, maxStreams: DefaultMaxStreams}))
		if err := <-accepted; err == nil {
			t.Error("accepted")
		}
		host.mu.Lock()
		left := len(host.sessions)
		host.mu.Unlock()
		if left != 0 {
			t.Errorf("%d sessions are left", left)
		}
		time.Sleep(time.Second) // until its goroutines have seen the end
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := newSecurePipe()
		host := NewHost(HostConfig{})
		go host.Accept(t.Context(), far, Config{}, Peer{Identity: owner})
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := NewClient(ctx, &cancellingCarrier{near, cancel}, Config{}); err == nil {
			t.Error("a session")
		}
		time.Sleep(time.Second) // an end that waited for longer would be reported by synctest
	})
}
