package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"culvert/internal/cli/exit"
)

const (
	unitFolder = "../../scripts/release/systemd"
	etcFolder  = "../../scripts/release/etc"
)

// systemdAnalyze runs systemd-analyze, whose checks of users' units need a runtime folder.
func systemdAnalyze(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatalf("%v: `make test-deps` installs it", err)
	}
	cmd := exec.Command("systemd-analyze", args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "SYSTEMD_COLORS=0")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %q: %v\n%s", args, err, output)
	}
	return string(output)
}

// copyUnits copies the units of a kind, system or user, to a folder. The program that they name is
// /bin/true, as culvert is not installed.
func copyUnits(t *testing.T, kind string) (paths []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(unitFolder, kind, "*"))
	if err != nil || len(found) == 0 {
		t.Fatal("no units", err)
	}
	dir := t.TempDir()
	for _, unit := range found {
		text := strings.ReplaceAll(readText(t, unit), "/usr/bin/culvert", "/bin/true")
		path := filepath.Join(dir, strings.Replace(filepath.Base(unit), "@.", "@work.", 1))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestUnits has systemd check the units. It has nothing to complain about, and takes the system's
// services for well protected: 10 is no protection, 2 a good one.
func TestUnits(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"system", "user"} {
		paths := copyUnits(t, kind)
		// systemd does not tell what it has found by its status alone.
		args := append([]string{"verify", "--" + kind, "--man=no"}, paths...)
		if output := systemdAnalyze(t, args...); output != "" {
			t.Errorf("systemd-analyze verify:\n%s", output)
		}
		for _, path := range paths {
			if kind == "system" && strings.HasSuffix(path, ".service") {
				systemdAnalyze(t, "security", "--offline=true", "--threshold=19", "--no-pager", path)
			}
		}
	}
}

// TestUnitsSeeSettings: the services can read the kernel's settings and the use of the processors,
// which ProcSubset=pid would hide.
func TestUnitsSeeSettings(t *testing.T) {
	t.Parallel()
	services, err := filepath.Glob(filepath.Join(unitFolder, "*", "*.service"))
	if err != nil || len(services) == 0 {
		t.Fatal("no services", err)
	}
	for _, path := range services {
		if got := unitSetting(readText(t, path), "ProcSubset"); len(got) > 0 {
			t.Errorf("%s has ProcSubset=%s", path, got)
		}
	}
}

// TestPackageDoesNotWait: an upgrade restarts what runs, and doesn't wait for what it stops and
// starts. A local is started once it has reached its remote.
func TestPackageDoesNotWait(t *testing.T) {
	t.Parallel()
	text := readText(t, "../../scripts/release/packages/postinstall.sh")
	for _, unit := range []string{"culvert-remote.service", "'culvert-local@*.service'"} {
		if restart := "systemctl --no-block try-restart " + unit; !strings.Contains(text, restart) {
			t.Errorf("no `%s` in\n%s", restart, text)
		}
	}
}

// unitSetting finds the values of a setting.
func unitSetting(unit, name string) (values []string) {
	for _, m := range regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1) {
		values = append(values, m[1])
	}
	return values
}

// startUnit starts what a service starts, as systemd would, with its environment and the files of
// the packages in s.dir instead of /etc/culvert. The instance is what %I and %i stand for.
func startUnit(t *testing.T, s *stage, m *serviceManager, unit, instance string) *process {
	t.Helper()
	specifiers := strings.NewReplacer("%I", instance, "%i", instance, "/etc/culvert", s.dir)
	text := specifiers.Replace(readText(t, filepath.Join(unitFolder, unit)))
	if got := unitSetting(text, "Type"); !slices.Equal(got, []string{"notify"}) {
		t.Errorf("%s has the type %q", unit, got)
	}
	start := unitSetting(text, "ExecStart")
	if len(start) != 1 {
		t.Fatalf("%s starts %q", unit, start)
	}
	words := strings.Fields(start[0])
	if words[0] != "/usr/bin/culvert" {
		t.Errorf("%s starts %s", unit, words[0])
	}
	if got := unitSetting(text, "LimitCORE"); !slices.Equal(got, []string{"0"}) {
		t.Errorf("the size of a core of %s is limited to %q", unit, got)
	}
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -c 0 && exec culvert "$@"`, "sh"},
		words[1:]...)...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"},
		unitSetting(text, "Environment")...)
	for _, file := range unitSetting(text, "EnvironmentFile") {
		more, err := os.ReadFile(strings.TrimPrefix(file, "-"))
		if err == nil {
			cmd.Env = append(cmd.Env, strings.Fields(string(more))...)
		}
	}
	for _, setting := range []string{"StateDirectory", "RuntimeDirectory"} {
		for _, name := range unitSetting(text, setting) {
			dir := filepath.Join(s.dir, setting, strings.ReplaceAll(name, "/", "-"))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			variable := strings.ToUpper(strings.TrimSuffix(setting, "Directory")) + "_DIRECTORY="
			cmd.Env = append(cmd.Env, variable+dir)
		}
	}
	return startIn(t, m.supervises(cmd), false)
}

// TestUnitsStart starts the services with the packages' files: the remote admits the local once its
// key is in the list, which a reload reads. Neither needs a home.
func TestUnitsStart(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, name := range []string{"config.toml", "remote.toml", "authorized_keys"} {
		text := readText(t, filepath.Join(etcFolder, name))
		for old, own := range map[string]string{
			"127.0.0.1:8080":      "127.0.0.1:0",
			"# socks = ":          "socks = ",
			"127.0.0.1:1080":      "127.0.0.1:0",
			"/etc/culvert/author": s.dir + "/author",
		} {
			text = strings.ReplaceAll(text, old, own)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	manager := newServiceManager(t)
	remote := startUnit(t, s, manager, "system/culvert-remote.service", "")
	_, address, ok := strings.Cut(manager.await("READY=1\n"), "\nSTATUS=listening on ")
	if !ok {
		t.Fatal("the remote does not report where it listens")
	}

	near := newServiceManager(t)
	config := filepath.Join(s.dir, "config.toml")
	hosts := fmt.Sprintf("\n[hosts.work]\nurl = \"ws://%s/\"\n", address)
	err := os.WriteFile(config, []byte(readText(t, config)+hosts), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	secrets := fmt.Sprintf("CULVERT_REMOTE_KEY=%s\n", loggedKey(t, remote))
	env := filepath.Join(s.dir, "local-work.env")
	if err := os.WriteFile(env, []byte(secrets), 0o600); err != nil {
		t.Fatal(err)
	}
	local := startUnit(t, s, near, "system/culvert-local@.service", "work")
	checkStatus(t, local, exit.NotAdmitted)
	line := loggedKey(t, local) + " laptop\n"
	if err := os.WriteFile(filepath.Join(s.dir, "authorized_keys"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	remote.send(t, syscall.SIGUSR1)
	manager.await("RELOADING=1\n", "WATCHDOG=1")
	manager.await("READY=1", "WATCHDOG=1")
	local = startUnit(t, s, near, "system/culvert-local@.service", "work")
	near.await("READY=1\n")
	near.await("WATCHDOG=1")
	// What the watchdog does to a process that is stuck is not taken for wrong usage.
	local.send(t, syscall.SIGABRT)
	if status, err := local.wait(); status != -1 || err != nil {
		t.Errorf("aborted with status %d, %v", status, err)
	}
	remote.send(t, syscall.SIGTERM)
	checkStatus(t, remote, exit.OK)
}

// loggedKey returns the key that a node has logged when it made it.
func loggedKey(t *testing.T, p *process) string {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^.*created a key pair.*$`)
	text := p.stderr.await(pattern.MatchString, p.ended)
	key := regexp.MustCompile(`"key":"([A-Za-z0-9_-]{43})"`).FindStringSubmatch(
		pattern.FindString(text))
	if key == nil {
		t.Fatalf("no key is logged:\n%s", text)
	}
	return key[1]
}
