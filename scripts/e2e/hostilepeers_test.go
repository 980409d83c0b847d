//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// hostileRounds is how often TestHostilePeers measures each attack. Only several rounds, on a
// machine that does nothing else, tell about speed.
var (
	hostileRounds = flag.Int("hostile", 0,
		"how many rounds TestHostilePeers measures of each attack, 0 for none; make hostile: 5")
	hostileOnly = flag.String("hostile-only", "", "the part of the names of attacks to measure")
)

const (
	hostileRace   = 6         // times as much with the race detector
	hostileBudget = 256 << 20 // bytes: --memory of both ends, and what each may have resident
	hostileLeast  = 0.8       // of what a client gets alongside an ordinary busy one

	hostileWarmUp = 500 * time.Millisecond
	hostileWindow = 2 * time.Second
	hostileGlance = 200 * time.Millisecond // of each attack when nothing is measured
)

// company is a remote with a client who downloads, and two others: an ordinary one, and a hostile
// one, whose share its attacks may have used up for a while.
type company struct {
	*tunnel          // of the client who is measured
	hostile identity // of the hostile client
	busy    *node    // the local of the ordinary one
	targets Targets
}

func startCompany(t *testing.T) *company {
	t.Helper()
	c := &company{tunnel: &tunnel{server: newIdentity(t), client: newIdentity(t)},
		hostile: newIdentity(t)}
	ordinary := newIdentity(t)
	target := startRole(t, role{Name: targetRole})
	if err := json.Unmarshal([]byte(target.stdout.waitLine(t, target, "", patience)),
		&c.targets); err != nil {
		t.Fatal(err)
	}
	c.authorized = writeFile(t, "authorized_keys",
		c.client.key+"\n"+ordinary.key+"\n"+c.hostile.key+"\n")
	budget := fmt.Sprint(hostileBudget)
	c.remote = startNode(t, "remote", culvert(t, remoteArgs(c.server, "--log-level", "warn",
		"--memory", budget, "--authorized-keys", c.authorized)...))
	local := func(id identity, name string) *node {
		return startNode(t, name, culvert(t, localArgs(id, c.server, c.remote.url(), "--memory",
			budget, "--log-level", "warn", "-L", "127.0.0.1:0:"+c.targets.Talker)...))
	}
	c.local, c.busy = local(c.client, "local"), local(ordinary, "ordinary client")
	return c
}

// startRole runs a process in a role.
func startRole(t *testing.T, r role) *process {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	return start(t, r.Name, cmd)
}

// download downloads through a local until it is told to stop, and counts the bytes.
type download struct {
	bytes   atomic.Int64
	conn    net.Conn
	reading sync.WaitGroup
}

func startDownload(t *testing.T, local *node) *download {
	t.Helper()
	conn, err := net.Dial("tcp", local.forwards[0])
	if err != nil {
		t.Fatal(err)
	}
	d := &download{conn: conn}
	d.reading.Go(func() {
		buf := make([]byte, 256<<10)
		for {
			n, err := conn.Read(buf)
			d.bytes.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(d.stop)
	return d
}

func (d *download) stop() {
	d.conn.Close()
	d.reading.Wait()
}

// rate waits for some time, and returns what has come meanwhile, in bytes a second.
func (d *download) rate(t *testing.T, window time.Duration) float64 {
	t.Helper()
	before, began := d.bytes.Load(), time.Now()
	timer := time.NewTimer(window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
	return float64(d.bytes.Load()-before) / time.Since(began).Seconds()
}

// hostility is what an attack did.
type hostility struct {
	rate     float64 // bytes a second of the other client's download
	resident int     // bytes of memory of whoever was attacked, at most
	roleResult
}

// ordinary returns the rate of the client's download alongside that of the ordinary one.
func (c *company) ordinary(t *testing.T, window time.Duration) float64 {
	t.Helper()
	busy := startDownload(t, c.busy)
	defer busy.stop()
	d := startDownload(t, c.local)
	defer d.stop()
	d.rate(t, hostileWarmUp)
	return d.rate(t, window)
}

// under measures the client's download during an attack.
func (c *company) under(t *testing.T, name string, window time.Duration) (h hostility) {
	t.Helper()
	attacker := startRole(t, role{name, c.remote.url(), c.hostile.file, c.targets})
	victim := c.remote.process
	line := attacker.stdout.waitLine(t, attacker, "", patience)
	if hostileAttacks[name].ofRemote {
		var remote struct{ Address, Key string }
		if err := json.Unmarshal([]byte(line), &remote); err != nil {
			t.Fatal(err)
		}
		victim = start(t, "attacked local", culvert(t, localArgs(c.client,
			identity{key: remote.Key}, "ws://"+remote.Address+"/", "--log-level", "warn",
			"--memory", fmt.Sprint(hostileBudget))...))
		defer func() {
			victim.signal(syscall.SIGTERM)
			victim.wait(stopTime)
		}()
	}
	d := startDownload(t, c.local)
	defer d.stop()
	watch := watchMemory(t, victim)
	defer watch()
	if window > hostileGlance {
		d.rate(t, hostileWarmUp)
	}
	h.rate = d.rate(t, window)
	if h.rate == 0 {
		testnet.Poll(t, patience, "the download goes on", func() bool { return d.bytes.Load() > 0 })
	}
	attacker.signal(syscall.SIGTERM)
	if status := attacker.wait(patience); status != 0 {
		t.Fatalf("%s: the attacker failed with status %d", name, status)
	}
	h.resident = watch()
	lines := strings.Split(strings.TrimSpace(attacker.stdout.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &h.roleResult); err != nil {
		t.Fatal(err)
	}
	return h
}

// watchMemory watches how much memory a process has until stop is called, which returns the most.
func watchMemory(t *testing.T, p *process) (stop func() (most int)) {
	ctx, cancel := context.WithCancel(t.Context())
	most := make(chan int, 1)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		highest := 0
		for ctx.Err() == nil {
			highest = max(highest, residentMemory(t, p.cmd))
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
		most <- highest
	}()
	return sync.OnceValue(func() int {
		cancel()
		return <-most
	})
}

// Whatever a hostile client or remote does, memory stays within the budget and others go on. With
// -hostile, another client's download is measured, in pairs: alongside an ordinary busy client, and
// alongside the hostile one.
func TestHostilePeers(t *testing.T) {
	if *hostileRounds == 0 {
		t.Parallel()
	}
	var c *company
	if *hostileRounds == 0 {
		c = startCompany(t)
	}
	for _, name := range slices.Sorted(maps.Keys(hostileAttacks)) {
		if !strings.Contains(name, *hostileOnly) {
			continue
		}
		if *hostileRounds == 0 {
			h := c.under(t, name, hostileGlance)
			h.check(t, name)
			continue
		}
		c := startCompany(t) // which no other attack has left anything in
		var ratios, before, during []float64
		most := hostility{}
		for range *hostileRounds {
			b := c.ordinary(t, hostileWindow)
			h := c.under(t, name, hostileWindow)
			h.check(t, name)
			before, during = append(before, b), append(during, h.rate)
			ratios = append(ratios, h.rate/b)
			h.resident = max(h.resident, most.resident)
			most = h
		}
		slices.Sort(ratios)
		slices.Sort(before)
		slices.Sort(during)
		middle := len(ratios) / 2
		t.Logf("| %s | %.0f | %.0f | %.2f | %d | %d sessions, %v", name, before[middle]/1e6,
			during[middle]/1e6, ratios[middle], most.resident>>20, most.Sessions, most.Codes)
		if ratios[middle] < hostileLeast {
			t.Errorf("%s: the other client gets %.2f of what it gets alongside a busy one: %.2f", name,
				ratios[middle], ratios)
		}
	}
	t.Logf("%s, %d processors, race detector: %v", runtime.Version(), runtime.NumCPU(),
		testnet.RaceEnabled)
}

// check checks what must hold however fast the machine is.
func (h hostility) check(t *testing.T, name string) {
	t.Helper()
	most := hostileBudget
	if testnet.RaceEnabled { // which takes several times as much
		most *= hostileRace
	}
	t.Logf("%s: %d MiB resident of %d", name, h.resident>>20, most>>20)
	if h.resident > most {
		t.Errorf("%s: %d MiB resident, at most %d", name, h.resident>>20, most>>20)
	}
	if h.Sessions == 0 {
		t.Errorf("%s: no session", name)
	}
}
