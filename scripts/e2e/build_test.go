//go:build linux

package e2e

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// manPageModules are used only by the man page generator, and must not be linked into the program.
var manPageModules = []string{"github.com/cpuguy83/go-md2man/v2",
	"github.com/russross/blackfriday/v2"}

// copyCheckout copies the sources of this checkout to a folder and commits them there, so that
// every copy has the same commit.
func copyCheckout(t *testing.T, folder string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel("../..", path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "build", "node_modules"}, entry.Name()) {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(folder, name), 0o755)
		}
		if !entry.Type().IsRegular() || entry.Name() == ".git" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(folder, name), text, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	git := needProgram(t, "git")
	env := append(cleanEnv(t), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z")
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "e2e: copy"},
	} {
		must(t, patience, command(env, folder, git, args...))
	}
}

// buildIn runs a copy's build script, as make build does, and returns the program's path.
func buildIn(t *testing.T, folder string) string {
	t.Helper()
	script := filepath.Join(folder, "scripts/build.sh")
	must(t, buildTimeout, command(os.Environ(), os.TempDir(), script))
	return filepath.Join(folder, "build/culvert")
}

// Builds of a commit are identical wherever the checkout is. The program is static, runs without
// any other file, and doesn't link the libraries that generate its documentation.
func TestBuild(t *testing.T) {
	t.Parallel()
	folders := []string{
		filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "another place", "b"),
	}
	var built [2][]byte
	for i, folder := range folders {
		copyCheckout(t, folder)
		var err error
		if built[i], err = os.ReadFile(buildIn(t, folder)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Error("two builds of the same commit differ")
	}
	path := filepath.Join(folders[0], "build/culvert")
	version := must(t, patience, command(nil, t.TempDir(), path, "--version"))
	commit := must(t, patience,
		command(cleanEnv(t), folders[0], needProgram(t, "git"), "rev-parse", "HEAD"))
	if fields := strings.Fields(version); len(fields) != 3 || len(fields[2]) < 12 ||
		!strings.HasPrefix(commit, fields[2]) {
		t.Errorf("version %q of commit %s", version, commit)
	}
	details := must(t, patience, command(nil, t.TempDir(), path, "version"))
	line := "\ncommit   " + strings.TrimSpace(commit) + " 2026-01-01T00:00:00Z\n"
	if !strings.Contains(details, line) {
		t.Errorf("culvert version prints\n%swithout%s", details, line)
	}
	t.Run("static", func(t *testing.T) { checkStatic(t, path) })
	t.Run("libraries", func(t *testing.T) { checkLibraries(t, path) })
	t.Run("demo in an empty root", func(t *testing.T) { checkDemoAlone(t, path) })
}

func checkStatic(t *testing.T, path string) {
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program needs a dynamic linker")
		}
	}
	if libraries, err := program.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("the program needs %v", libraries)
	}
}

func checkLibraries(t *testing.T, path string) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, module := range info.Deps {
		if slices.Contains(manPageModules, module.Path) {
			t.Errorf("%s is linked into the program", module.Path)
		}
		if module.Path == "github.com/urfave/cli/v2" {
			found++
		}
	}
	if found != 1 {
		t.Errorf("unexpected modules in the build information: %v", info.Deps)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range []string{"md2man", "blackfriday"} {
		if bytes.Contains(text, []byte(library+".")) { // as in the names of functions
			t.Errorf("the program contains functions of %s", library)
		}
	}
}

// checkDemoAlone runs the demo as the only file in its root and fetches its page through it.
func checkDemoAlone(t *testing.T, path string) {
	needRoot(t, "it changes the root of a program")
	root := t.TempDir()
	if err := os.Link(path, filepath.Join(root, "culvert")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/culvert", "demo", "--socks", "127.0.0.1:0")
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	p := start(t, "demo", cmd)
	p.stdout.waitLine(t, p, "stop ", patience)
	var proxy, page string
	for line := range strings.Lines(p.stdout.String()) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[0] == "try" {
			proxy, page = fields[3], fields[4]
		}
	}
	by, err := url.Parse(proxy)
	if err != nil || page == "" {
		t.Fatalf("the demo prints %q: %v", p.stdout, err)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		Proxy: http.ProxyURL(by), DisableKeepAlives: true,
	}}
	response, err := client.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil ||
		!strings.Contains(text.String(), "this page came through culvert") {
		t.Errorf("the page is %q, %v", &text, err)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(stopTime); status != 0 {
		t.Errorf("status %d", status)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 1 {
		t.Errorf("the root holds %v, %v", fmt.Sprint(entries), err)
	}
}
