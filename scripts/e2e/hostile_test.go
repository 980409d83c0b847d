//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
)

const (
	// negotiation exceeds what any listener gives a client to complete its request: 30 s at the
	// remote, which clients reach over slow and lossy links.
	negotiation = 45 * time.Second

	// hostileEach is how many clients of each kind connect to each listener concurrently.
	hostileEach = 5
)

// hostileClients are what malicious clients and those of other protocols send.
var hostileClients = map[string]func(conn net.Conn){
	"silence":              func(net.Conn) {},
	"a garbage first byte": func(conn net.Conn) { io.WriteString(conn, "\xff\x00\x17") },
	"garbage":              func(conn net.Conn) { io.Copy(conn, randomBytes(1<<20)) },
	"a ClientHello of TLS": func(conn net.Conn) {
		io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	},
	"half a SOCKS5 request": func(conn net.Conn) {
		io.WriteString(conn, "\x05\x01\x00\x05\x01\x00\x03\x0bexam")
	},
	"half a SOCKS4 request": func(conn net.Conn) { io.WriteString(conn, "\x04\x01\x00\x50\x00\x00") },
	"half an HTTP request": func(conn net.Conn) {
		io.WriteString(conn, "GET http://a.test/ HTTP/1.1\r\nHost: a.t")
	},
	"a name of 1 MB": func(conn net.Conn) {
		io.WriteString(conn, "\x04\x01\x00\x50\x00\x00\x00\x01\x00"+strings.Repeat("a", 1<<20))
	},
	"an endless header": func(conn net.Conn) {
		_, err := io.WriteString(conn, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n")
		for err == nil {
			_, err = io.WriteString(conn, "X: "+strings.Repeat("a", 1000)+"\r\n")
		}
	},
	"a request drop by drop": func(conn net.Conn) {
		drops := time.NewTicker(500 * time.Millisecond)
		defer drops.Stop()
		for line := "GET http://a.test/ H"; ; <-drops.C {
			if _, err := io.WriteString(conn, line[:1]); err != nil {
				return
			}
			line = line[1:] + line[:1]
		}
	},
}

// openFiles counts a process's descriptors.
func openFiles(t *testing.T, p *process) int {
	t.Helper()
	files, err := os.ReadDir("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd")
	if err != nil {
		t.Error(err)
	}
	return len(files)
}

// Clients that stall or send garbage are disconnected in time at every port of both ends, and leak
// nothing.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	tun := startReverse(t, "localhost", "-R", "0:socks", "--pac", "127.0.0.1:0")
	echoAddress := testnet.EchoServer(t)
	ports := map[string]string{
		"--socks":  tun.local.socks,
		"--pac":    strings.TrimSuffix(strings.TrimPrefix(tun.local.pac, "http://"), "/proxy.pac"),
		"--listen": tun.remote.listen[0], "-R": tun.local.reverse[0],
	}
	reach := func() {
		t.Helper()
		for _, port := range []string{"--socks", "-R"} {
			conn, got := socksConnect(t, ports[port], echoAddress)
			if got != replyOK {
				t.Fatalf("%s: reply %d", port, got)
			}
			if err := testnet.CheckEcho(conn, "reached"); err != nil {
				t.Errorf("%s: %v", port, err)
			}
			conn.Close()
		}
	}
	reach() // the first connection opens descriptors that stay
	// Loops of a session keep a descriptor once they have been busy: see package pollbreak.
	const busyLoops = 3
	settled := func(before int, p *process) func() bool {
		return func() bool { return openFiles(t, p) <= before+busyLoops }
	}
	var before [2]int
	for i, p := range []*process{tun.local.process, tun.remote.process} {
		before[i] = fewestFiles(t, p)
	}
	var clients sync.WaitGroup
	for port, address := range ports {
		for what, send := range hostileClients {
			for range hostileEach {
				clients.Go(func() {
					if err := comeAndGo(address, send); err != nil {
						t.Errorf("%s, %s: %v", port, what, err)
					}
				})
			}
		}
	}
	clients.Wait()
	for i, p := range []*process{tun.local.process, tun.remote.process} {
		testnet.Poll(t, patience, fmt.Sprintf("%s has %d descriptors again", p.name, before[i]),
			settled(before[i], p))
	}
	reach()
}

// fewestFiles returns the number of a process's descriptors once its connections have ended.
func fewestFiles(t *testing.T, p *process) int {
	t.Helper()
	fewest := openFiles(t, p)
	testnet.Poll(t, patience, "the descriptors settle", func() bool {
		now, last := openFiles(t, p), fewest
		fewest = min(fewest, now)
		return now == last
	})
	return fewest
}

// comeAndGo is a hostile client. It returns an error if it is not disconnected in time.
func comeAndGo(address string, send func(net.Conn)) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(negotiation))
	var sending sync.WaitGroup
	defer sending.Wait()
	defer conn.Close()
	sending.Go(func() { send(conn) })
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil // end of file or a reset
}
