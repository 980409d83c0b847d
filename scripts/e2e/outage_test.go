//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// suspendTime is how long a process is stopped. It exceeds the other end's keepalive timeout.
const suspendTime = 10 * time.Second

// Either process is stopped for ten seconds, as when a laptop is suspended. The transfers then
// continue, and nothing is lost.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"local", "remote"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			tun := startTunnel(t, "-L", "0:"+testnet.EchoServer(t))
			conn, err := net.DialTimeout("tcp", tun.local.forwards[0], patience)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(suspendTime + 2*patience))
			if err := testnet.CheckEcho(conn, "before"); err != nil {
				t.Fatal(err)
			}
			node := map[string]*node{"local": tun.local, "remote": tun.remote}[who]
			node.signal(syscall.SIGSTOP)
			sent := make([]byte, 8<<20)
			rand.Read(sent)
			written := make(chan error, 1)
			go func() {
				_, err := conn.Write(sent)
				written <- err
			}()
			select {
			case <-time.After(suspendTime):
			case <-node.exited:
				t.Fatalf("the stopped %s has exited", who)
			}
			node.signal(syscall.SIGCONT)
			got := make([]byte, len(sent))
			if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came back, equal %v, %v", n, bytes.Equal(got, sent), err)
			}
			if err := <-written; err != nil {
				t.Error(err)
			}
		})
	}
}
