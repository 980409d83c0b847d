//go:build linux

package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// maxFailover bounds how long a new connection may wait while its remote is lost: 3 s, and a margin
// for a busy machine. The local itself would give up after 10 s.
const maxFailover = 30 * time.Second

// knownLost is how long after its loss a remote may still seem to be there: two round trips and 100
// ms, and a margin for a busy machine.
const knownLost = time.Second

// failoverRemotes are two remotes without a balancer, of which the first is the better one.
type failoverRemotes struct {
	keys    [2]identity
	nodes   [2]*node
	listen  [2]string
	reverse string // an address that clients may bind
}

func startFailoverRemotes(t *testing.T) *failoverRemotes {
	t.Helper()
	r := &failoverRemotes{
		listen:  [2]string{"127.0.0.1:0", "127.0.0.1:0"},
		reverse: "127.0.0.1:" + testnet.FreePort(t),
	}
	for i := range r.nodes {
		r.keys[i] = newIdentity(t)
		r.start(t, i)
	}
	return r
}

func (r *failoverRemotes) start(t *testing.T, i int) {
	t.Helper()
	r.nodes[i] = startNode(t, fmt.Sprint("remote ", i), culvert(t, remoteArgs(r.keys[i],
		"--listen", r.listen[i], "--allow-anyone", "--reverse", r.reverse)...))
	r.listen[i] = r.nodes[i].listen[0]
}

// url returns the URL of a remote, with its key.
func (r *failoverRemotes) url(i int) string { return "ws://" + r.listen[i] + "/#" + r.keys[i].key }

// steady opens a connection after the other, each of which has to bring an answer.
type steady struct {
	between sync.Mutex   // held while there is a connection
	done    atomic.Int64 // how many have
	longest atomic.Int64 // that one took, in nanoseconds
	failed  chan error   // gets the first error
	stop    func()
}

func startSteady(address string) *steady {
	s := &steady{failed: make(chan error, 1)}
	stopped := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-stopped:
				return
			default:
			}
			s.between.Lock()
			began := time.Now()
			err := echoOnce(address, maxFailover)
			s.between.Unlock()
			if err != nil {
				s.failed <- err
				return
			}
			s.longest.Store(max(s.longest.Load(), int64(time.Since(began))))
			s.done.Add(1)
		}
	})
	s.stop = sync.OnceFunc(func() {
		close(stopped)
		running.Wait()
	})
	return s
}

// echoOnce sends a text over a new connection to an echo server, and awaits it.
func echoOnce(address string, timeout time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	return testnet.CheckEcho(conn, "steady")
}

// await waits until more connections have brought an answer.
func (s *steady) await(t *testing.T, more int64) {
	t.Helper()
	enough := s.done.Load() + more
	testnet.Poll(t, 2*maxFailover, "new connections succeed", func() bool {
		select {
		case err := <-s.failed:
			t.Fatalf("a new connection failed: %v", err)
		default:
		}
		return s.done.Load() >= enough
	})
}

// report logs how long the longest connection took since the last report.
func (s *steady) report(t *testing.T, what string) {
	t.Helper()
	longest := time.Duration(s.longest.Swap(0))
	t.Logf("%s: longest wait of a new connection %v", what, longest.Round(time.Millisecond))
}

// holdsReverse waits until a remote has bound the address of -R, and checks that it serves.
func (r *failoverRemotes) holdsReverse(t *testing.T, i int) {
	t.Helper()
	testnet.Poll(t, 2*patience, fmt.Sprint("the address is bound on remote ", i), func() bool {
		return strings.Contains(r.nodes[i].stderr.String(), "reverse forward up")
	})
	testnet.Poll(t, 2*patience, "the bound address serves", func() bool {
		return echoOnce(r.reverse, patience) == nil
	})
}

// TestFailover kills the better of two remotes without a warning. New connections begin all the
// time, and none fails: they wait, and go to the other remote, where the address of -R is bound
// then. Once the better remote has been back for --failback-after, they go there, and an older one
// goes on where it is.
func TestFailover(t *testing.T) {
	t.Parallel()
	r := startFailoverRemotes(t)
	echo := testnet.EchoServer(t)
	local := startNode(t, "local", culvert(t, "local", "--print-ready", "--log-level", "debug",
		"--key", newIdentity(t).file, "--socks", "none", "--failback-after", "1s",
		"--fast-open", "never", // see TestFailoverFastOpen
		"-L", "0:"+echo, "-R", r.reverse+":"+echo, r.url(0), r.url(1)))
	r.holdsReverse(t, 0)

	steady := startSteady(local.forwards[0])
	defer steady.stop()
	steady.await(t, 1)
	steady.between.Lock() // those that are open can't move
	r.nodes[0].kill()
	steady.between.Unlock()
	switched := "new streams go to another remote"
	line := local.stderr.waitLine(t, local.process, switched, 2*patience)
	if !strings.Contains(line, " remote=ws://"+r.listen[1]+"/") {
		t.Errorf("not to the second remote: %s", line)
	}
	steady.await(t, 2)
	steady.report(t, "failover")
	r.holdsReverse(t, 1)

	old := testnet.Dial(t, local.forwards[0], 5*patience)
	if err := testnet.CheckEcho(old, "before"); err != nil {
		t.Fatal(err)
	}
	r.start(t, 0)
	testnet.Poll(t, 3*patience, "new streams go to the first remote", func() bool {
		return strings.Count(local.stderr.String(), switched) == 2
	})
	steady.await(t, 2)
	steady.report(t, "the way back")
	if err := testnet.CheckEcho(old, "after"); err != nil {
		t.Errorf("the old connection: %v", err)
	}
	r.holdsReverse(t, 0)
}

// TestFailoverFastOpen freezes the better of two remotes, or kills it, while connections begin for
// which the client gets the reply before the target is reached. The remote may have what it is sent
// before it owes an answer for too long, so these are cut short; but no connection waits until the
// lost session ends, and all others succeed on the other remote.
func TestFailoverFastOpen(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*node){
		"killed": func(n *node) { n.kill() },
		"frozen": func(n *node) { n.signal(syscall.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startFailoverRemotes(t)
			o := &opener{target: testnet.EchoServer(t), pause: 50 * time.Millisecond}
			o.node = startNode(t, "local", culvert(t, "local", "--print-ready", "--key",
				newIdentity(t).file, "--socks", "127.0.0.1:0", r.url(0), r.url(1)))
			stop := o.start(t)
			from := time.Now()
			o.await(t, from)
			lose(r.nodes[0])
			lost := time.Now()
			o.await(t, lost.Add(knownLost))
			stop()
			if name == "frozen" {
				r.nodes[0].kill() // it can't stop
			}
			all, cut, longest := o.check(t, from, lost.Add(knownLost))
			t.Logf("%d new connections, %d cut short that were open, longest wait %v", all, cut,
				longest.Round(time.Millisecond))
			if longest > maxNewWait {
				t.Errorf("a new connection waited for %v, want %v at most", longest, maxNewWait)
			}
		})
	}
}

// await waits until some connections that began after a moment have succeeded.
func (o *opener) await(t *testing.T, after time.Time) {
	t.Helper()
	testnet.Poll(t, newTime, "new connections succeed", func() bool { return o.succeeded(after) >= 3 })
}
