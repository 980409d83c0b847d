package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// TestMemoryFlag: --memory bounds what a process takes when a client gives many streams of a
// talkative target a byte of credit each.
func TestMemoryFlag(t *testing.T) {
	piece := make([]byte, 64<<10)
	talker := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		defer conn.Close()
		conn.SetWriteBuffer(16 << 10) // thousands of full ones would slow down the system
		for {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	})
	bounded, unbounded := floodedRemote(t, "64MiB", talker), floodedRemote(t, "2GiB", talker)
	t.Logf("%d MiB with --memory 64MiB, %d MiB with 2GiB", bounded>>20, unbounded>>20)
	if bounded > unbounded/2 {
		t.Errorf("%d MiB with --memory 64MiB, %d MiB with 2GiB", bounded>>20, unbounded>>20)
	}
}

// floodedRemote returns by how many bytes the memory of a remote grows under the load.
func floodedRemote(t *testing.T, memory, talker string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "culvert", "remote", "--allow-anyone", "--allow", "127.0.0.1",
		"--listen", "127.0.0.1:0", "--memory", memory, "--print-ready", "--log-level", "error")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "GOMEMLIMIT=")
	output, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	var ready readyLine
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	before := residentMemory(t, cmd.Process.Pid)
	session := withoutCredit(t, ctx, ready.Listen[0])
	defer session.Close()
	for range 1000 {
		_, err := session.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: talker})
		if err != nil {
			t.Fatal(err)
		}
	}
	last, since := before, time.Now()
	testnet.Poll(t, time.Minute, "the memory grows no more", func() bool {
		if now := residentMemory(t, cmd.Process.Pid); now > last+1<<20 {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
	return last - before
}

// withoutCredit starts a session with a remote whose streams it gives one byte of credit.
func withoutCredit(t *testing.T, ctx context.Context, address string) *mux.Session {
	t.Helper()
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := protocol.NewDialer(nil, nil).DialContext(ctx, "ws://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := protocol.Client(ctx, ws, protocol.ClientConfig{
		Version: protocol.Version1, Key: key, MaxMessage: mux.MaxRecordSize,
		VerifyServer: func(protocol.Peer) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := mux.NewClient(ctx, conn, mux.Config{Window: 1, MaxWindow: 1})
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// residentMemory returns the bytes of memory that a process has in use.
func residentMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "VmRSS:")
	if fields := strings.Fields(rest); found && len(fields) > 0 {
		if kib, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no VmRSS of process %d", pid)
	return 0
}
