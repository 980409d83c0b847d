//go:build linux

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/net/proxy"
)

var killedLocals = flag.Int("killed-locals", 12, "how many locals TestNodeKilled has at a time")

const (
	// newPause is the time between two new connections, of all locals of a test together.
	newPause = 8 * time.Millisecond

	// newTime bounds each new connection, and all that the locals do together.
	newTime = time.Minute

	// maxNewWait bounds how long a new connection may wait for another remote: 3 s, or 5 s if the
	// loss isn't noticed at once, and a margin for a busy machine.
	maxNewWait = 20 * time.Second
)

// opened is a new connection that has ended.
type opened struct {
	began  time.Time
	took   time.Duration // until its answer came
	joined bool          // the local reported success
	err    error
}

// opener opens connections through a local's SOCKS port, one after each pause, whatever became of
// those before.
type opener struct {
	*node
	pause     time.Duration
	target    string
	fast      bool      // by default, a client gets the reply before the target is reached
	logged    int       // losses of its connection, in its log
	losses    int       // those since the last check
	noticedAt time.Time // when the last one was seen

	mu    sync.Mutex
	ended []opened
}

// start opens connections until stop is called, which waits until all have ended.
func (o *opener) start(t *testing.T) (stop func()) {
	var opening sync.WaitGroup
	halt := always(t, o.pause, func() { opening.Go(o.open) })
	stop = func() {
		halt()
		opening.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// open opens a connection, which has to bring an answer.
func (o *opener) open() {
	c := opened{began: time.Now()}
	c.joined, c.err = echoThrough(o.socks, o.target, newTime)
	c.took = time.Since(c.began)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = append(o.ended, c)
}

// echoThrough sends a text to an echo server through a SOCKS port, and awaits it. It reports
// whether the port had reported success.
func echoThrough(socks, target string, timeout time.Duration) (joined bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	dialer, err := proxy.SOCKS5("tcp", socks, nil, &net.Dialer{})
	if err != nil {
		return false, err
	}
	conn, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	return true, testnet.CheckEcho(conn, "new")
}

// succeeded returns how many connections that began after a moment have brought an answer.
func (o *opener) succeeded(after time.Time) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.ended {
		if c.err == nil && c.began.After(after) {
			n++
		}
	}
	return n
}

// look notes whether the local has noticed that it has lost its node.
func (o *opener) look() {
	if n := strings.Count(o.stderr.String(), "connection lost"); n > o.logged {
		o.losses += n - o.logged
		o.logged, o.noticedAt = n, time.Now()
	}
}

// check checks the connections that began since a moment, and returns how many there were, how many
// were cut short, and the longest time that one took to succeed. One that the client took to be
// open may be cut short if it began before another moment.
func (o *opener) check(
	t *testing.T, since, mayBeCut time.Time,
) (all, cut int, longest time.Duration) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.ended {
		if c.began.Before(since) {
			continue
		}
		all++
		switch {
		case c.err == nil:
			longest = max(longest, c.took)
		case c.joined && c.began.Before(mayBeCut) && c.took < maxNewWait:
			cut++
		default:
			t.Errorf("%s: a connection that began %v after the last that may be cut failed after %v: %v",
				o.name, c.began.Sub(mayBeCut), c.took, c.err)
		}
	}
	o.ended = nil
	return all, cut, longest
}

// nodeKilled is locals behind a front with two remotes.
type nodeKilled struct {
	*behind
	front   *process
	openers []*opener
}

// A node of two behind a balancer ends without a warning. New connections of its users wait, and
// succeed on the other node. Once it is back, it is the other's turn.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	for _, f := range fronts[:2] { // HAProxy and nginx
		t.Run(f.name, func(t *testing.T) {
			k := startNodeKilled(t, f)
			var stops []func()
			for _, o := range k.openers {
				stops = append(stops, o.start(t))
			}
			first := 0
			if k.sessions(1) > k.sessions(0) {
				first = 1
			}
			k.kill(t, first)
			k.awaitCheck(t, f, first, "DOWN")
			k.start(t, first)
			k.awaitCheck(t, f, first, "UP")
			k.kill(t, 1-first)
			if k.sessions(first) < len(k.openers) {
				t.Errorf("%d sessions on the node that is back, want %d", k.sessions(first), len(k.openers))
			}
			for _, stop := range stops {
				stop()
			}
		})
	}
}

func startNodeKilled(t *testing.T, f *front) *nodeKilled {
	t.Helper()
	client, tlsCA, echo := newIdentity(t), newWebCA(t), testnet.EchoServer(t)
	k := &nodeKilled{behind: newBehind(t, client)}
	s := newDeployment(t, tlsCA, k.listen, k.status)
	config := f.configure(t, s)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	// The interval of HAProxy's health check is the documented one, since new connections may wait
	// for that.
	rewrite(t, config, strings.ReplaceAll(string(text), "inter 100ms", "inter 1s"))
	k.front = f.start(t, s, config)
	for i := range *killedLocals {
		pause := newPause * time.Duration(*killedLocals)
		o := &opener{target: echo, fast: i%2 == 0, pause: pause}
		args := frontArgs(client, k.ca, tlsCA, s.port)
		if !o.fast {
			args = append(args, "--fast-open", "never")
		}
		o.node = startNode(t, fmt.Sprint("local ", i), culvert(t, args...))
		k.openers = append(k.openers, o)
	}
	return k
}

// awaitCheck waits until the front's health check, if it has one, has found a node in a state.
func (k *nodeKilled) awaitCheck(t *testing.T, f *front, i int, state string) {
	t.Helper()
	if f.name == "haproxy.cfg" {
		line := fmt.Sprintf("Server remotes/%c is %s", "ab"[i], state)
		k.front.stdout.waitLine(t, k.front, line, newTime)
	}
}

// sessions returns how many there have been on a node.
func (k *nodeKilled) sessions(i int) int {
	return strings.Count(k.nodes[i].stderr.String(), "session up")
}

// kill kills a node while connections begin, and checks what became of them.
func (k *nodeKilled) kill(t *testing.T, i int) {
	t.Helper()
	from := time.Now()
	k.await(t, from, "connections succeed")
	k.nodes[i].kill()
	died := time.Now()
	k.await(t, died, "connections succeed after a node's end")
	// Those that have begun until now may still be under way.
	settled := time.Now()
	k.await(t, settled, "connections succeed afterwards")
	k.check(t, i, from, died)
}

// await waits until each local has opened some connections that began after a moment.
func (k *nodeKilled) await(t *testing.T, after time.Time, what string) {
	t.Helper()
	testnet.Poll(t, newTime, what, func() bool {
		enough := true
		for _, o := range k.openers {
			o.look()
			enough = enough && o.succeeded(after) >= 3
		}
		return enough
	})
}

// check checks what became of the connections. One that a client took to be open when the node died
// is cut short. With --fast-open, so is one that began later, and had sent its data before the
// local noticed.
func (k *nodeKilled) check(t *testing.T, i int, from, died time.Time) {
	t.Helper()
	var all, cut, lost int
	var longest time.Duration
	for _, o := range k.openers {
		mayBeCut := time.Time{}
		if o.losses > 0 {
			lost++
			if mayBeCut = died; o.fast && o.noticedAt.After(died) {
				mayBeCut = o.noticedAt
			}
		}
		n, c, took := o.check(t, from, mayBeCut)
		all, cut, longest = all+n, cut+c, max(longest, took)
		o.losses = 0
	}
	t.Logf("remote %d killed, %d of %d locals lost it: %d new connections, "+
		"%d cut short that were open, longest wait %v",
		i, lost, len(k.openers), all, cut, longest.Round(time.Millisecond))
	if lost == 0 {
		t.Errorf("no local has lost remote %d", i)
	}
	if longest > maxNewWait {
		t.Errorf("a new connection waited for %v, want %v at most", longest, maxNewWait)
	}
}
