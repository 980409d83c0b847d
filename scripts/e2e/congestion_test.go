//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/internal/testnet/link"
)

// congestionSetting reads one of the machine's settings.
func congestionSetting(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_" + name + "congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// Each end has the congestion control that its flag names, and says so; check says what this end
// has. On one machine, auto leaves out BBR.
func TestCongestion(t *testing.T) {
	t.Parallel()
	system := congestionSetting(t, "")[0]
	auto := system
	if auto == "bbr" {
		auto = "reno"
	}
	for choice, want := range map[string]string{
		"auto": auto, "system": system, "reno": "reno", "bbr": "bbr",
	} {
		tun := startTunnel(t, "--congestion", choice)
		tun.local.stderr.waitLine(t, tun.local.process, "session up congestion="+want+" ", patience)
		// The remote's choice is its own.
		tun.remote.stderr.waitLine(t, tun.remote.process, " congestion="+auto+" ", patience)
		r := run(t, patience, culvert(t, "check", "--congestion", choice, "--key", tun.client.file,
			"--remote-key", tun.server.key, tun.remote.url()))
		if r.status != 0 || !strings.Contains(r.stdout, tun.remote.listen[0]+", "+want+"\n") {
			t.Errorf("check --congestion %s: status %d\n%s%s", choice, r.status, r.stdout, r.stderr)
		}
	}
}

// Between two machines, each end asks for BBR, whatever its system has.
func TestCongestionBetweenMachines(t *testing.T) {
	t.Parallel()
	f := startFarRemote(t, link.Config{Delay: time.Millisecond, Rate: 100e6})
	for _, h := range []*host{f.near, f.far} {
		if err := setCongestion(h.name, "reno"); err != nil {
			t.Fatal(err)
		}
	}
	local := startNode(t, "local", f.near.command(t, culvert(t, localArgs(f.client, f.server,
		"ws://"+f.remote.listen[0]+"/")...)))
	local.stderr.waitLine(t, local.process, "session up congestion=bbr ", patience)
	f.remote.stderr.waitLine(t, f.remote.process, " congestion=bbr ", patience)
}

// An unknown name is a usage error of every command that has the flag.
func TestUnknownCongestion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"remote"}, {"local", "ws://remote.invalid/"}, {"check", "ws://remote.invalid/"},
		{"run", "ws://remote.invalid/", "--", "true"},
	} {
		args = append([]string{args[0], "--congestion", "none-such"}, args[1:]...)
		r := run(t, patience, culvert(t, args...))
		if r.status != 2 || !strings.Contains(r.stderr, `bad --congestion "none-such"`) {
			t.Errorf("%s: status %d, %s", args[0], r.status, r.stderr)
		}
	}
}

// A user whom the system doesn't permit a congestion control keeps that of the system, and the log
// says so once, also with several connections.
func TestCongestionNotPermitted(t *testing.T) {
	t.Parallel()
	needRoot(t, "it runs a local as another user")
	allowed := congestionSetting(t, "allowed_")
	withheld := ""
	for _, name := range congestionSetting(t, "available_") {
		if !slices.Contains(allowed, name) {
			withheld = name
		}
	}
	if withheld == "" {
		t.Fatalf("every congestion control of this machine is permitted to all: modprobe tcp_vegas")
	}
	tun := startRemoteOnly(t)
	folder := serviceFolder(t)
	key := filepath.Join(folder, "identity.json")
	must(t, patience, command(cleanEnv(t), "", "cp", tun.client.file, key))
	if err := os.Chown(key, service, service); err != nil {
		t.Fatal(err)
	}
	local := startNode(t, "local", asService(t, folder, "local", "--print-ready",
		"--socks", "127.0.0.1:0",
		"--key", key, "--remote-key", tun.server.key, "--congestion", withheld, tun.remote.url()))
	system := congestionSetting(t, "")[0]
	local.stderr.waitLine(t, local.process, "session up congestion="+system+" ", patience)
	tun.remote.kill()
	tun.remote = tun.startRemote(t, tun.remote.listen[0], tun.server)
	testnet.Poll(t, patience, "there is another session", func() bool {
		return strings.Count(local.stderr.String(), "session up") > 1
	})
	log := local.stderr.String()
	if n := strings.Count(log, "doesn't permit"); n != 1 {
		t.Errorf("%d lines about it:\n%s", n, log)
	}
}
