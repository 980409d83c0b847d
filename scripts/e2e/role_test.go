//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/certs"
	"culvert/internal/testnet/hostile"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// role is what a process of the tests' own program does in place of the tests: hostile peers and
// their targets, each apart from those who are measured. It is passed on in the environment.
type role struct {
	Name   string // of an attack, or targetRole
	Remote string // its URL; for an attack of a client
	Key    string // the file of the attacker's key pair
	Targets
}

// Targets are the addresses of a process with the role target.
type Targets struct {
	Talker  string // sends without end
	Drip    string // the same with a small buffer, for thousands of connections
	Echo    string
	Refuses string // nobody listens there
}

const (
	roleVariable = "CULVERT_TEST_ROLE"
	targetRole   = "target"
)

// roleResult is what a process prints when it ends: how many sessions it has had, and with which
// codes the other side has ended them.
type roleResult struct {
	Sessions int
	Codes    map[mux.Code]int
}

// playRole does what the environment asks for, until the process is told to end. It reports whether
// that was anything.
func playRole() bool {
	text, given := os.LookupEnv(roleVariable)
	if !given {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var r role
	err := json.Unmarshal([]byte(text), &r)
	switch {
	case err != nil:
	case r.Name == targetRole:
		err = serveTargets(ctx)
	default:
		err = r.attack(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// printLine prints a line for the test that has started the process.
func printLine(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Printf("%s\n", line)
	}
	return err
}

// serveTargets serves Targets, and prints them.
func serveTargets(ctx context.Context) error {
	var listeners [4]net.Listener
	for i := range listeners {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		listeners[i] = ln
	}
	talk := make([]byte, 64<<10)
	send := func(conn net.Conn) {
		for {
			if _, err := conn.Write(talk); err != nil {
				return
			}
		}
	}
	go serveEach(listeners[0], send)
	go serveEach(listeners[1], func(conn net.Conn) {
		conn.(*net.TCPConn).SetWriteBuffer(16 << 10) // or the kernel's memory for all of TCP is used up
		send(conn)
	})
	go serveEach(listeners[2], func(conn net.Conn) { io.Copy(conn, conn) })
	listeners[3].Close()
	address := func(i int) string { return listeners[i].Addr().String() }
	err := printLine(Targets{address(0), address(1), address(2), address(3)})
	<-ctx.Done()
	return err
}

func serveEach(ln net.Listener, handle func(net.Conn)) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			handle(conn)
		}()
	}
}

// hostileAttack is what a hostile peer does in each of its sessions, as long as the other side lets
// it.
type hostileAttack struct {
	hostile.Config
	ofRemote bool // it is a remote's
	session  func(r *attacker, p *hostile.Peer)
}

// attacker is a process in the role of a hostile peer.
type attacker struct {
	role
	ctx     context.Context
	begin   func()   // called with the first session
	records [][]byte // malformed ones

	mu     sync.Mutex
	result roleResult
}

func (r role) attack(ctx context.Context) error {
	attack, known := hostileAttacks[r.Name]
	if !known {
		return fmt.Errorf("no attack is called %q", r.Name)
	}
	told, began := ctx, make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		<-told.Done()
		<-began // or there is nothing to report
		stop()
	}()
	key, err := certs.ReadKeyPair(r.Key)
	if err != nil {
		return err
	}
	a := &attacker{role: r, ctx: ctx, begin: sync.OnceFunc(func() { close(began) }),
		result: roleResult{Codes: map[mux.Code]int{}}}
	malformed := hostile.Malformed(r.Echo)
	for _, name := range slices.Sorted(maps.Keys(malformed)) {
		a.records = append(a.records, malformed[name])
	}
	if attack.ofRemote {
		err = a.serve(attack, key)
	} else {
		err = a.dial(attack, key)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(err, printLine(a.result))
}

// dial has one session after another with the remote.
func (a *attacker) dial(attack hostileAttack, key *certs.KeyPair) error {
	if err := printLine(map[string]string{}); err != nil { // it heeds signals from now on
		return err
	}
	for a.ctx.Err() == nil {
		p, err := hostile.Dial(a.ctx, a.Remote, key, func(protocol.Peer) error { return nil },
			attack.Config)
		if err != nil { // refused for now
			a.pause(10 * time.Millisecond)
			continue
		}
		a.run(attack, p)
		p.Close()
	}
	return nil
}

// serve is a remote that attacks whoever connects.
func (a *attacker) serve(attack hostileAttack, key *certs.KeyPair) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := printLine(map[string]string{
		"address": ln.Addr().String(), "key": key.Public().String(),
	}); err != nil {
		return err
	}
	var running sync.WaitGroup
	handler := hostile.Handler(key, attack.Config, func(p *hostile.Peer) { a.run(attack, p) })
	server := &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			handler.ServeHTTP(w, r)
		})}
	go server.Serve(ln)
	<-a.ctx.Done()
	err = server.Close()
	running.Wait()
	return err
}

// run runs a session of the attack, and notes how it ended.
func (a *attacker) run(attack hostileAttack, p *hostile.Peer) {
	a.begin()
	stop := context.AfterFunc(a.ctx, func() {
		late := time.AfterFunc(time.Second, p.Close) // if nothing more can be sent
		defer late.Stop()
		p.Send(hostile.Frame(hostile.KindClose, 0, 0, byte(mux.CodeDone))) // no session waits for it
		p.Close()
	})
	defer stop()
	attack.session(a, p)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Sessions++
	if code := p.Code(); code != 0 {
		a.result.Codes[code]++
	}
}

// pause waits, and reports whether the attack goes on.
func (a *attacker) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.ctx.Done():
		return false
	}
}

// live sends signs of life until the session has ended.
func (a *attacker) live(p *hostile.Peer) {
	for token := uint64(1); p.Send(hostile.Number(hostile.KindPing, 0, token)); token++ {
		if !a.pause(100 * time.Millisecond) {
			return
		}
	}
}

// settle waits until the other side has ended the session, for a while.
func (a *attacker) settle(p *hostile.Peer) {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-p.Ended():
	case <-timer.C:
	case <-a.ctx.Done():
	}
}

// malformed sends the next malformed record.
func (a *attacker) malformed(p *hostile.Peer) {
	a.mu.Lock()
	record := a.records[a.result.Sessions%len(a.records)]
	a.mu.Unlock()
	p.Send(record)
	a.settle(p)
}

// opens returns the open frames of a client's streams to a target.
func (a *attacker) opens(target string) func(n uint32) []byte {
	return func(n uint32) []byte { return hostile.Open(2*n+1, mux.StreamTCP, target) }
}

const (
	hostileMillion = 1_000_000
	hostileStreams = 1400
)

// hostileAttacks are all attacks, by name.
var hostileAttacks = map[string]hostileAttack{
	"a million opens": {Config: hostile.Config{Acks: true},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(hostileMillion, a.opens(a.Refuses))
		}},
	"a million opens, unacknowledged": {session: func(a *attacker, p *hostile.Peer) {
		p.Flood(hostileMillion, a.opens(a.Refuses))
		a.settle(p)
	}},
	"a million opens, answers unread": {session: func(a *attacker, p *hostile.Peer) {
		p.StopReading()
		p.Flood(hostileMillion, a.opens(a.Refuses))
		a.live(p)
	}},
	"reset storm": {Config: hostile.Config{Acks: true},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(hostileMillion, func(n uint32) []byte {
				return append(hostile.Open(2*n+1, mux.StreamTCP, a.Echo), hostile.Reset(2*n+1)...)
			})
		}},
	"windows of 2^63, never read": {Config: hostile.Config{FirstCredit: math.MaxUint32},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(hostileStreams, func(n uint32) []byte {
				return append(hostile.Open(2*n+1, mux.StreamTCP, a.Drip),
					hostile.Number(hostile.KindCredit, 2*n+1, 1<<63)...)
			})
			p.StopReading()
			a.live(p)
		}},
	"streams without credit": {Config: hostile.Config{FirstCredit: 1, Acks: true},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(hostileStreams, a.opens(a.Drip))
			a.live(p)
		}},
	"credit by the byte": {Config: hostile.Config{Acks: true},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(hostileStreams, a.opens(a.Drip))
			p.Flood(math.MaxUint32, func(n uint32) []byte {
				return hostile.Number(hostile.KindCredit, 2*(n%hostileStreams)+1,
					uint64(n/hostileStreams)+1)
			})
		}},
	"abandoned sessions": {Config: hostile.Config{FirstCredit: 1, Acks: true},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(hostileStreams, a.opens(a.Drip))
			a.pause(100 * time.Millisecond)
		}},
	"malformed frames": {session: (*attacker).malformed},
	"frames that may be repeated": {Config: hostile.Config{Acks: true},
		session: func(a *attacker, p *hostile.Peer) {
			p.Flood(math.MaxUint32, hostile.Repeatable)
		}},
	"a remote's million opens": {ofRemote: true, session: func(a *attacker, p *hostile.Peer) {
		p.Flood(hostileMillion, func(n uint32) []byte {
			return hostile.Open(2*n+2, mux.StreamTCP, a.Refuses)
		})
		a.settle(p)
	}},
	"a remote's malformed frames": {ofRemote: true, session: (*attacker).malformed},
}
