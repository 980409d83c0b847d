//go:build linux

package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/internal/testnet/link"
)

const (
	// roamTrip is the round trip of the link on which clients roam, and roamRate its bits a second.
	roamTrip = 40 * time.Millisecond
	roamRate = 20e6

	// roamBusy is what a busy machine may add to a gap.
	roamBusy = 500 * time.Millisecond

	// roamSteady is how long a download runs before its client moves on.
	roamSteady = 2 * time.Second
)

// roamer is a client on one host of a link that changes its addresses while it downloads from the
// other.
type roamer struct {
	t          *testing.T
	near, far  *host
	v6         bool
	server     string     // the remote's address
	address    int        // the number of the present address
	tun        *tunnel    // from near to far
	downloaded chan chunk // as they come in
}

// chunk is a piece of the download that has arrived.
type chunk struct {
	at time.Time
	n  uint64 // bytes before its end
}

// ip runs the ip program on a host.
func (h *host) ip(t *testing.T, args string) {
	t.Helper()
	all := append([]string{"-n", h.name}, strings.Fields(args)...)
	must(t, patience, exec.Command(needProgram(t, "ip"), all...))
}

// startRoamer starts the tunnel and the download.
func startRoamer(t *testing.T, v6 bool) *roamer {
	t.Helper()
	needRoot(t, "it makes network namespaces")
	l, err := link.New(link.Config{Delay: roamTrip / 2, Rate: roamRate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &roamer{
		t: t, v6: v6, server: l.B.Addr.String(),
		near:       &host{name: l.A.Namespace, addr: l.A.Addr},
		far:        &host{name: l.B.Namespace, addr: l.B.Addr},
		downloaded: make(chan chunk, 1<<16),
	}
	if v6 {
		r.server = "[fd00:1::1]"
		r.far.ip(t, "addr add fd00:1::1/128 dev link0 nodad")
		r.far.ip(t, "route add fd00:2::/64 dev link0")
	} else {
		r.far.ip(t, "route add 10.77.0.0/16 dev link0")
	}
	r.add()
	r.near.ip(t, "route add "+strings.Trim(r.server, "[]")+" dev link0")
	r.prefer()
	r.tun = &tunnel{server: newIdentity(t), client: newIdentity(t)}
	r.tun.authorized = writeFile(t, "authorized_keys", r.tun.client.key+"\n")
	args := remoteArgs(r.tun.server, "--listen", r.server+":0", "--authorized-keys", r.tun.authorized)
	r.tun.remote = startNode(t, "remote", r.far.command(t, culvert(t, args...)))
	site := r.far.listen(t, "127.0.0.1:0")
	testnet.Serve(t, site, func(conn net.Conn) { sendCount(conn) })
	args = localArgs(r.tun.client, r.tun.server, r.tun.remote.url(),
		"-L", "127.0.0.1:0:"+site.Addr().String())
	r.tun.local = startNode(t, "local", r.near.command(t, culvert(t, args...)))
	conn, err := inNamespace(r.near.name, func() (net.Conn, error) {
		return net.DialTimeout("tcp", r.tun.local.forwards[0], patience)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go r.receive(conn)
	return r
}

// sendCount sends the numbers from 0, until nobody reads them.
func sendCount(conn net.Conn) {
	block := make([]byte, 8<<10)
	for n := uint64(0); ; {
		for i := 0; i < len(block); i += 8 {
			binary.BigEndian.PutUint64(block[i:], n)
			n++
		}
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}

// receive checks what sendCount has sent. A number that is wrong, or an error, ends it.
func (r *roamer) receive(conn net.Conn) {
	defer close(r.downloaded)
	block := make([]byte, 8<<10)
	for n := uint64(0); ; {
		if _, err := io.ReadFull(conn, block); err != nil {
			return
		}
		for i := 0; i < len(block); i += 8 {
			if got := binary.BigEndian.Uint64(block[i:]); got != n {
				r.t.Errorf("number %d arrived in place of %d", got, n)
				return
			}
			n++
		}
		r.downloaded <- chunk{time.Now(), 8 * n}
	}
}

// name returns the client's address with a number.
func (r *roamer) name(n int) string {
	if r.v6 {
		return fmt.Sprintf("fd00:2::%d", n)
	}
	return fmt.Sprintf("10.77.0.%d", n)
}

// add gives the client its next address.
func (r *roamer) add() {
	r.address++
	args := "addr add " + r.name(r.address) + "/32 dev link0"
	if r.v6 {
		args = "addr add " + r.name(r.address) + "/128 dev link0 nodad"
	}
	r.near.ip(r.t, args)
}

// prefer makes the client's newest address that of new connections. It is a change of a route, and
// of nothing else.
func (r *roamer) prefer() {
	r.near.ip(r.t, "route replace "+strings.Trim(r.server, "[]")+" dev link0 src "+r.name(r.address))
}

// gapDuring returns the longest time without data of the download while and after change is called,
// until the download has run steadily again.
func (r *roamer) gapDuring(change func()) time.Duration {
	r.t.Helper()
	var gap time.Duration
	last := time.Now()
	follow := func(most time.Duration) {
		end := time.NewTimer(most)
		defer end.Stop()
		for {
			select {
			case c, ok := <-r.downloaded:
				if !ok {
					r.t.Fatal("the download has ended")
				}
				gap = max(gap, c.at.Sub(last))
				last = c.at
			case <-end.C:
				gap = max(gap, time.Since(last))
				return
			}
		}
	}
	follow(roamSteady)
	gap = 0
	change()
	follow(roamSteady)
	for deadline := time.Now().Add(patience); time.Since(last) > roamSteady/4; {
		if time.Now().After(deadline) {
			r.t.Fatal("the download has stalled")
		}
		follow(roamSteady)
	}
	return gap
}

// A client that downloads loses its address and gets another, five times: after less than a second
// the download goes on, and nothing of it is lost.
func TestRoaming(t *testing.T) {
	t.Parallel()
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRoamer(t, v6)
			for range 5 {
				gap := r.gapDuring(func() {
					old := r.name(r.address)
					r.add()
					r.prefer()
					bits := "/32"
					if v6 {
						bits = "/128"
					}
					r.near.ip(t, "addr del "+old+bits+" dev link0")
				})
				t.Logf("gap of %v", gap)
				if most := time.Second + roamBusy; gap > most {
					t.Errorf("gap of %v, want %v at most", gap, most)
				}
			}
		})
	}
}

// The way from a client's address is broken somewhere, while the client keeps the address, and gets
// another way: its carrier is pinged, and replaced after half a second of silence.
func TestRoamingSilently(t *testing.T) {
	t.Parallel()
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRoamer(t, v6)
			r.add() // known long before
			for range 3 {
				gap := r.gapDuring(func() {
					r.far.ip(t, "route add blackhole "+r.name(r.address-1))
					r.prefer()
				})
				t.Logf("gap of %v", gap)
				if most := 500*time.Millisecond + 8*roamTrip + roamBusy; gap > most {
					t.Errorf("gap of %v, want %v at most", gap, most)
				}
				r.add()
			}
		})
	}
}

// Addresses and routes that have nothing to do with the way to the remote come and go: the carrier
// stays.
func TestNetworkChangesElsewhere(t *testing.T) {
	t.Parallel()
	r := startRoamer(t, false)
	gap := r.gapDuring(func() {
		for n := range 45 {
			r.near.ip(t, fmt.Sprintf("addr add 10.88.0.%d/32 dev lo", n+1))
			r.near.ip(t, fmt.Sprintf("route add 10.89.%d.0/24 dev link0", n))
		}
	})
	t.Logf("gap of %v", gap)
	if text := r.tun.local.stderr.String(); strings.Contains(text, "connection lost") {
		t.Errorf("the carrier was replaced:\n%s", text)
	}
}
