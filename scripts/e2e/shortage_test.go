//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

const (
	// spareFiles is how many files a node that is short of them may open.
	spareFiles = 8

	// shortClients is how many clients it has then. Each takes a descriptor.
	shortClients = 30

	// established is the status of a CONNECT request that was served.
	established = "200 Connection established"
)

// limitFiles lets a process open only a few files more than it has open, and returns a function
// that lifts the limit.
func limitFiles(t *testing.T, p *process) (lift func()) {
	t.Helper()
	var before unix.Rlimit
	pid := p.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			t.Error(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(openFiles(t, p) + spareFiles), Max: before.Max})
	return func() { set(before) }
}

// cpuTime returns how much time of a processor a process has used.
func cpuTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	// See proc_pid_stat(5): the fields after the name, which ends with a parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// isIdle checks that a process uses little of a processor for a while.
func isIdle(t *testing.T, p *process) {
	t.Helper()
	const while = 2 * time.Second
	before := cpuTime(t, p)
	timer := time.NewTimer(while)
	defer timer.Stop()
	<-timer.C // measures how much it uses meanwhile
	if used := cpuTime(t, p) - before; used > while/2 {
		t.Errorf("%s used %v of a processor in %v", p.name, used, while)
	}
}

// shortage is a tunnel of which a node is short of something.
type shortage struct {
	*tunnel
	short  *node
	target string
}

// connect connects to the target through the tunnel, and returns the status of the HTTP proxy's
// answer, "" when there was none.
func (s *shortage) connect(conn net.Conn) (status string) {
	request := "CONNECT " + s.target + " HTTP/1.1\r\nHost: " + s.target + "\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return ""
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
	if err != nil {
		return ""
	}
	return strings.TrimSpace(answer.Status)
}

// crowd connects clients, and returns what the first answers are as they come.
func (s *shortage) crowd(t *testing.T) (clients []net.Conn, answers <-chan string) {
	t.Helper()
	all := make(chan string, shortClients)
	for range shortClients {
		client := testnet.Dial(t, s.local.socks, 4*patience)
		clients = append(clients, client)
		go func() { all <- s.connect(client) }()
	}
	return clients, all
}

// A node that is short of descriptors serves what it has, and logs it once. At the local new
// connections wait; the remote refuses them, and the client is told why. When there are descriptors
// again, all are served, and none of them is lost.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	for who, logged := range map[string]string{
		"local":  "connections can't be accepted: they wait",
		"remote": "targets can't be reached",
	} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := &shortage{tunnel: startTunnel(t, "--fast-open", "never"), target: testnet.EchoServer(t)}
			s.short = map[string]*node{"local": s.local, "remote": s.remote}[who]
			open := testnet.Dial(t, s.local.socks, 4*patience)
			if got := s.connect(open); got != established {
				t.Fatalf("the first client got %q", got)
			}
			before := openFiles(t, s.short.process)
			lift := limitFiles(t, s.short.process)
			clients, answers := s.crowd(t)
			line := s.short.stderr.waitLine(t, s.short.process, logged, patience)
			if !strings.Contains(line, "too many open files") ||
				!strings.Contains(line, "ulimit -n") {
				t.Errorf("logged %q", line)
			}
			served, refused := 0, 0
			count := func(got string) {
				t.Helper()
				switch {
				case got == established:
					served++
				case got == "503 the remote accepts no more connections" && who == "remote":
					refused++
				default:
					t.Errorf("a client got %q", got)
				}
			}
			if who == "remote" {
				for range shortClients {
					count(<-answers)
				}
				s.local.stderr.waitLine(t, s.local.process,
					"the peer is out of descriptors or memory", patience)
			}
			isIdle(t, s.short.process)
			if err := testnet.CheckEcho(open, "from before"); err != nil {
				t.Errorf("the first client: %v", err)
			}
			lift()
			if who == "local" {
				for range shortClients {
					count(<-answers)
				}
			} else if refused == 0 {
				t.Error("nobody was refused")
			}
			t.Logf("%d served, %d refused", served, refused)
			if got := strings.Count(s.short.stderr.String(), logged); got != 1 {
				t.Errorf("logged %d times", got)
			}
			last := testnet.Dial(t, s.local.socks, 4*patience)
			if got := s.connect(last); got != established {
				t.Errorf("after the shortage a client got %q", got)
			}
			for _, client := range append(clients, last) {
				client.Close()
			}
			testnet.Poll(t, patience, "the descriptors are free", func() bool {
				return openFiles(t, s.short.process) <= before+spareFiles
			})
		})
	}
}

const (
	// unreadStreams is how many streams of each direction nobody reads in TestLittleMemory. Their
	// first windows are more than the least budget lets a client hold.
	unreadStreams = 90

	// littleMemory bounds the resident memory of a node with the least budget, in bytes. The race
	// detector multiplies what a process takes.
	littleMemory = 384 << 20
)

// A client has so many streams that nobody reads, in both directions, that both nodes would need
// more memory than they have. Those wait, and one that is read is served.
func TestLittleMemory(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	talk := func(conn *net.TCPConn) {
		for piece := make([]byte, 16<<10); ; sent.Add(1) {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	}
	source := testnet.ServeTCP(t, talk)
	sink := testnet.ServeTCP(t, func(*net.TCPConn) { <-t.Context().Done() })
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = startNode(t, "remote", culvert(t, remoteArgs(tun.server, "--memory", "64MiB",
		"--authorized-keys", tun.authorized)...))
	tun.local = startNode(t, "local", culvert(t, localArgs(tun.client, tun.server, tun.remote.url(),
		"--memory", "64MiB", "-L", "0:"+sink, "-L", "0:"+source, "-L", "0:"+testnet.EchoServer(t))...))
	var talking sync.WaitGroup
	defer talking.Wait()
	for range unreadStreams {
		up := testnet.Dial(t, tun.local.forwards[0], 4*patience)
		defer up.Close()
		talking.Go(func() { talk(up) })
		testnet.Dial(t, tun.local.forwards[1], 4*patience)
	}
	last, since := int64(0), time.Now()
	testnet.Poll(t, 2*patience, "nothing moves", func() bool {
		if now := sent.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
	for range 10 {
		conn := testnet.Dial(t, tun.local.forwards[2], 2*patience)
		if err := testnet.CheckEcho(conn, strings.Repeat("x", 10<<10)); err != nil {
			t.Fatalf("a stream that is read: %v", err)
		}
		conn.Close()
	}
	for _, n := range []*node{tun.local, tun.remote} {
		used := residentMemory(t, n.cmd)
		t.Logf("%s takes %d MiB", n.name, used>>20)
		if used > littleMemory {
			t.Errorf("%s takes %d MiB", n.name, used>>20)
		}
		isIdle(t, n.process)
	}
}
