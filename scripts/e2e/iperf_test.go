//go:build linux

package e2e

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// iperf3 measures both directions through -L, which carries its control connection and four data
// streams.
func TestIperf(t *testing.T) {
	t.Parallel()
	program := needProgram(t, "iperf3")
	port := testnet.FreePort(t)
	server := start(t, "iperf3 server",
		command(cleanEnv(t), t.TempDir(), program, "--server", "--bind", "127.0.0.1", "--port", port))
	testnet.Poll(t, patience, "iperf3's server to listen", func() bool {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, patience)
		if err == nil {
			conn.Close()
		}
		return err == nil || !server.running()
	})
	tun := startTunnel(t, "-L", "0:127.0.0.1:"+port)
	_, near, err := net.SplitHostPort(tun.local.forwards[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct{ name, flag string }{{"up", "--no-delay"}, {"down", "--reverse"}} {
		t.Run(way.name, func(t *testing.T) {
			out := must(t, time.Minute,
				command(cleanEnv(t), t.TempDir(), program, "--client", "127.0.0.1", "--port", near,
					"--parallel", "4", "--bytes", "32M", "--json", way.flag))
			var report struct {
				End struct {
					Sent     struct{ Bytes int64 } `json:"sum_sent"`
					Received struct{ Bytes int64 } `json:"sum_received"`
				} `json:"end"`
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatal(err)
			}
			if report.End.Sent.Bytes < 32<<20 || report.End.Received.Bytes == 0 {
				t.Errorf("sent %d bytes, received %d", report.End.Sent.Bytes, report.End.Received.Bytes)
			}
		})
	}
}
