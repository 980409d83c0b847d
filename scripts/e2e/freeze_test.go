//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

const (
	// freezeLoad is what each loaded stream sends and gets back, in bytes. Most of it has to be on
	// its way when the freeze begins.
	freezeLoad = 24 << 20

	// freezeBegun is how much has come back by then.
	freezeBegun = 1 << 20
)

// frozen is what a freeze test stops.
type frozen struct {
	name   string
	freeze func(tun *tunnel, between *testnet.Relay) (thaw func())
}

// stopped stops a process, as a terminal, a suspended machine or a paused VM does.
func stopped(name string, which func(tun *tunnel) *node) frozen {
	return frozen{name, func(tun *tunnel, _ *testnet.Relay) func() {
		n := which(tun)
		n.signal(syscall.SIGSTOP)
		return func() { n.signal(syscall.SIGCONT) }
	}}
}

// Either process freezes, or the network between them, for all connections or only for those open
// at that moment, whose last bytes then arrive after newer connections exist. Idle streams and
// streams in the middle of a transfer continue and lose nothing. The test spends most of its time
// asleep.
func TestFreeze(t *testing.T) {
	t.Parallel()
	all := []frozen{
		stopped("local", func(tun *tunnel) *node { return tun.local }),
		stopped("remote", func(tun *tunnel) *node { return tun.remote }),
		{"network", func(_ *tunnel, r *testnet.Relay) func() { return r.Freeze() }},
		{"connection", func(_ *tunnel, r *testnet.Relay) func() { return r.FreezeConnections() }},
	}
	var tests sync.WaitGroup
	for _, what := range all {
		for _, load := range []bool{false, true} {
			for _, d := range []time.Duration{5 * time.Second, 30 * time.Second, 100 * time.Second} {
				name := fmt.Sprintf("%s/load=%v/%v", what.name, load, d)
				tests.Go(func() { // concurrently, regardless of -parallel
					t.Run(name, func(t *testing.T) { testFreeze(t, what, load, d) })
				})
			}
		}
	}
	tests.Wait()
}

func testFreeze(t *testing.T, what frozen, load bool, d time.Duration) {
	tun := &tunnel{server: newIdentity(t), client: newIdentity(t)}
	tun.authorized = writeFile(t, "authorized_keys", tun.client.key+"\n")
	tun.remote = tun.startReverseRemote(t, "127.0.0.1:0", "localhost")
	between := testnet.RelayTo(t, tun.remote.listen[0], testnet.RelayConfig{})
	echo := testnet.EchoServer(t)
	tun.local = startNode(t, "local", culvert(t, localArgs(tun.client, tun.server,
		"ws://"+between.Address()+"/", "-L", "0:"+echo, "-R", "0:"+echo)...))

	var conns []net.Conn // opened by each end, twice
	for _, address := range []string{tun.local.forwards[0], tun.local.reverse[0]} {
		for range 2 {
			conn := testnet.Dial(t, address, d+4*patience)
			if err := testnet.CheckEcho(conn, "before"); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
	}
	var transfers sync.WaitGroup
	defer transfers.Wait()
	if load { // the second of each pair remains idle
		begun := make(chan struct{}, len(conns))
		for _, conn := range []net.Conn{conns[0], conns[2]} {
			transfers.Go(func() {
				if err := echoLoad(conn, begun); err != nil {
					t.Error(err)
				}
			})
		}
		for range 2 {
			<-begun
		}
	}
	thaw := what.freeze(tun, between)
	select {
	case <-time.After(d):
	case <-tun.local.exited:
		t.Error("the local has exited")
	case <-tun.remote.exited:
		t.Error("the remote has exited")
	}
	thaw()
	transfers.Wait()
	for i, conn := range conns {
		if err := testnet.CheckEcho(conn, "after"); err != nil {
			t.Errorf("stream %d after the freeze: %v", i, err)
		}
	}
	if strings.Contains(tun.local.stderr.String(), "session lost") {
		t.Error("the session was lost")
	}
}

// echoLoad sends data to an echo server and checks what comes back. It sends a value to begun once
// freezeBegun bytes have come back, or when it ends before.
func echoLoad(conn net.Conn, begun chan<- struct{}) error {
	sent := make([]byte, freezeLoad)
	rand.Read(sent)
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		written <- err
	}()
	got := make([]byte, len(sent))
	n, err := io.ReadFull(conn, got[:freezeBegun])
	begun <- struct{}{}
	if err == nil {
		var rest int
		rest, err = io.ReadFull(conn, got[freezeBegun:])
		n += rest
	}
	if err != nil {
		conn.Close() // ends the writer
	}
	writeErr := <-written
	if err != nil || writeErr != nil || !bytes.Equal(got, sent) {
		return fmt.Errorf("%d of %d bytes came back, %v, %v", n, len(sent), err, writeErr)
	}
	return nil
}
