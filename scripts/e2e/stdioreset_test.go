//go:build linux

package e2e

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// -W prints what a target sent before it reset the connection, and exits with an error.
func TestStdioPrintsWhatComesBeforeAReset(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	for size, times := range map[int]int{60: 10, 1 << 20: 3} {
		ln := place("").listen(t)
		c := cutShort{bytes: size, by: byTargetAtOnce}
		var sending sync.WaitGroup
		sending.Go(func() {
			for range times {
				conn, err := ln.Accept()
				if err == nil {
					err = c.send(conn)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		for range times {
			r := run(t, patience, stdioTo(t, tun, ln))
			if len(r.stdout) != size || r.status != 1 || !strings.Contains(r.stderr, "cut short") {
				t.Errorf("status %d, %d bytes of %d, %q", r.status, len(r.stdout), size, r.stderr)
			}
		}
		sending.Wait()
	}
}

// When the standard input of -W is a socket that is reset, the target gets what was sent before,
// and then the reset.
func TestStdioSendsWhatComesBeforeAReset(t *testing.T) {
	t.Parallel()
	tun := startRemoteOnly(t)
	ln := place("").listen(t)
	for _, size := range []int{60, 1 << 20} {
		far, near := testnet.TCPPair(t, patience)
		stdin, err := near.File()
		near.Close()
		if err != nil {
			t.Fatal(err)
		}
		cmd := stdioTo(t, tun, ln)
		cmd.Stdin = stdin
		p := start(t, "local", cmd)
		stdin.Close()
		target, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { target.Close() })
		c := cutShort{bytes: size, by: byClient}
		if err := c.send(far); err != nil {
			t.Fatal(err)
		}
		target.SetDeadline(time.Now().Add(cutTime))
		if o := c.receive(target); o.bytes != size || !isReset(o.err) {
			t.Errorf("the target got %d bytes of %d, then %v", o.bytes, size, o.err)
		}
		if status := p.wait(patience); status != 1 {
			t.Errorf("status %d", status)
		}
	}
}

// stdioTo returns a command for a local that connects its standard input and output to a listener.
func stdioTo(t *testing.T, tun *tunnel, ln net.Listener) *exec.Cmd {
	t.Helper()
	return culvert(t, "local", "-W", ln.Addr().String(), "--key", tun.client.file,
		"--remote-key", tun.server.key, tun.remote.url())
}

// Closing a Unix socket with unread data resets it. What the target or the client sent before still
// arrives.
func TestNothingIsLostBeforeAResetOfAUnixSocket(t *testing.T) {
	t.Parallel()
	const size, times = 64 << 10, 200
	folder := t.TempDir()
	targets, clients := filepath.Join(folder, "targets"), filepath.Join(folder, "clients")
	unixLn, err := net.Listen("unix", targets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unixLn.Close() })
	tcpLn := place("").listen(t)
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = startNode(t, "remote", culvert(t, remoteArgs(tun.server,
		"--authorized-keys", tun.authorized, "--allow", "unix:"+targets, "--allow", "127.0.0.1")...))
	tun.local = startNode(t, "local", culvert(t, localArgs(tun.client, tun.server, tun.remote.url(),
		"-L", "0:unix:"+targets, "-L", "unix:"+clients+":"+tcpLn.Addr().String())...))
	for range times {
		client, err := net.Dial("tcp", tun.local.forwards[0])
		if err != nil {
			t.Fatal(err)
		}
		checkUnixTarget(t, unixLn, client, size)
	}
	for range times {
		client, err := net.Dial("unix", clients)
		if err != nil {
			t.Fatal(err)
		}
		checkUnixClient(t, tcpLn, client, size)
	}
}

// checkUnixTarget makes a target on a Unix socket send and reset, and checks what the client gets.
func checkUnixTarget(t *testing.T, ln net.Listener, client net.Conn, size int) {
	t.Helper()
	defer client.Close()
	client.SetDeadline(time.Now().Add(cutTime))
	if _, err := client.Write([]byte("??")); err != nil {
		t.Fatal(err)
	}
	target, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := io.ReadFull(target, make([]byte, 1)); err != nil { // and leave the other
		t.Fatal(err)
	}
	target.Write(patternBytes(size))
	target.Close()
	c := cutShort{bytes: size, by: byTargetAtOnce}
	if o := c.receive(client); o.bytes != size || !isReset(o.err) {
		t.Errorf("the target sent %d bytes, and %d came, then %v", size, o.bytes, o.err)
	}
}

// checkUnixClient makes a client on a Unix socket send and reset, and checks what the target gets.
func checkUnixClient(t *testing.T, ln net.Listener, client net.Conn, size int) {
	t.Helper()
	defer client.Close()
	client.SetDeadline(time.Now().Add(cutTime))
	target, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	target.SetDeadline(time.Now().Add(cutTime))
	if _, err := target.Write([]byte("??")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil { // and leave the other
		t.Fatal(err)
	}
	client.Write(patternBytes(size))
	client.Close()
	c := cutShort{bytes: size, by: byClient}
	if o := c.receive(target); o.bytes != size || !isReset(o.err) {
		t.Errorf("the client sent %d bytes, and %d came, then %v", size, o.bytes, o.err)
	}
}
