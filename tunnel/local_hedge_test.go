package tunnel

import (
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// TestHedge has the first connection hang at each step up to the handshake: another takes its place
// within the attempt, and the steps are reported once each.
func TestHedge(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	address := remote.server.Listener.Addr().String()
	for name, bytes := range map[string]int64{"upgrade": 0, "handshake": 200} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			relay := passTo(address)
			f := startFront(t, func(conn *net.TCPConn) {
				if n.Add(1) > 1 {
					relay(conn)
					return
				}
				far, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer far.Close()
				go io.Copy(far, conn)
				io.CopyN(conn, far, bytes)
				io.Copy(io.Discard, far)
			})
			cfg := remote.localConfig(t, key)
			cfg.Address.url = &url.URL{Scheme: "ws", Host: f.address, Path: "/"}
			steps := map[Step]int{}
			cfg.OnProgress = func(p Progress) {
				if p.Err != nil {
					t.Errorf("%s: %v", p.Step, p.Err)
				}
				steps[p.Step]++
			}
			began := time.Now()
			if _, _, err := Connect(testnet.Within(t, patience), cfg); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			if took < hedgeDelay || took > hedgeDelay+5*time.Second || n.Load() != 2 {
				t.Errorf("after %v, with %d connections", took, n.Load())
			}
			for _, step := range []Step{StepTCP, StepUpgrade, StepHandshake, StepSession} {
				if steps[step] != 1 {
					t.Errorf("%s was reported %d times", step, steps[step])
				}
			}
		})
	}
}
