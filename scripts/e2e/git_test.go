//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

// gitTime bounds one git command.
const gitTime = time.Minute

// gitWorld runs git without the user's settings.
type gitWorld struct {
	t   *testing.T
	env []string
}

func newGitWorld(t *testing.T) *gitWorld {
	t.Helper()
	env := append(cleanEnv(t), "GIT_TERMINAL_PROMPT=0")
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		env = append(env, "GIT_"+who+"_NAME=e2e", "GIT_"+who+"_EMAIL=e2e@culvert.test",
			"GIT_"+who+"_DATE=2026-01-01T00:00:00Z")
	}
	return &gitWorld{t, env}
}

func (g *gitWorld) run(folder string, args ...string) string {
	g.t.Helper()
	return must(g.t, gitTime, command(g.env, folder, needProgram(g.t, "git"), args...))
}

// makeRepository makes a repository with a history: files in folders that change, one of 8 MiB, a
// branch, a merge and tags.
func (g *gitWorld) makeRepository(folder string) {
	g.t.Helper()
	g.run("", "init", "-q", "-b", "main", folder)
	commit := func(branch string, i int) {
		name := filepath.Join(folder, branch, fmt.Sprint(i%7), "file.txt")
		text := strings.Repeat(fmt.Sprintf("%s, commit %d\n", branch, i), 50*i+1)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			g.t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			g.t.Fatal(err)
		}
		g.run(folder, "add", "-A")
		g.run(folder, "commit", "-q", "-m", fmt.Sprintf("%s: change %d", branch, i))
	}
	big, err := os.Create(filepath.Join(folder, "big"))
	if err == nil {
		_, err = io.Copy(big, randomBytes(8<<20))
	}
	if err != nil || big.Close() != nil {
		g.t.Fatal("the large file", err)
	}
	for i := range 12 {
		commit("trunk", i)
	}
	g.run(folder, "checkout", "-q", "-b", "side", "HEAD~6")
	for i := range 6 {
		commit("side", i)
	}
	g.run(folder, "tag", "-a", "-m", "the side's end", "v0.1")
	g.run(folder, "checkout", "-q", "main")
	g.run(folder, "merge", "-q", "--no-edit", "side")
	g.run(folder, "tag", "light")
}

// refs returns the names and hashes of a repository's tags and of its branches under the prefix
// branches.
func (g *gitWorld) refs(folder, branches string) string {
	g.t.Helper()
	return g.run(folder, "for-each-ref", "--format=%(objectname) %(refname:lstrip=-1)",
		branches+"main", branches+"side", "refs/tags")
}

// serveGit serves the repositories in a folder with git's own daemon as inetd would: one process
// per connection.
func (g *gitWorld) serveGit(folder string) (address string) {
	g.t.Helper()
	git := needProgram(g.t, "git")
	return testnet.ServeTCP(g.t, func(conn *net.TCPConn) {
		socket, err := conn.File()
		if err != nil {
			g.t.Error(err)
			return
		}
		defer socket.Close()
		daemon := exec.CommandContext(g.t.Context(), git, "daemon", "--inetd", "--export-all",
			"--enable=receive-pack", "--base-path="+folder, folder)
		daemon.Env = g.env
		daemon.Stdin, daemon.Stdout = socket, socket
		if err := daemon.Run(); err != nil && g.t.Context().Err() == nil {
			g.t.Errorf("git daemon: %v", err)
		}
	})
}

// A clone, and a push into it, through a port forward.
func TestGitThroughForward(t *testing.T) {
	t.Parallel()
	g := newGitWorld(t)
	folder := t.TempDir()
	origin, clone := filepath.Join(folder, "origin"), filepath.Join(folder, "clone")
	g.makeRepository(origin)
	tun := startTunnel(t, "-L", "127.0.0.1:0:"+g.serveGit(folder))
	url := "git://" + tun.local.forwards[0] + "/origin"

	g.run("", "clone", "-q", url, clone)
	g.run(clone, "fsck", "--full", "--strict")
	if got, want := g.refs(clone, "refs/remotes/origin/"), g.refs(origin, "refs/heads/"); got != want {
		t.Errorf("the clone has\n%s, want\n%s", got, want)
	}
	got, want := g.run(clone, "ls-tree", "-r", "HEAD"), g.run(origin, "ls-tree", "-r", "HEAD")
	if got != want {
		t.Errorf("the clone's files are\n%s, want\n%s", got, want)
	}
	if dirty := g.run(clone, "status", "--porcelain"); dirty != "" {
		t.Errorf("the clone's files differ from its commit:\n%s", dirty)
	}
	big, err := os.Open(filepath.Join(clone, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	if got, want := sum(t, big), sum(t, randomBytes(8<<20)); got != want {
		t.Errorf("the large file has sum %s, want %s", got, want)
	}

	answer := []byte(strings.Repeat("from the clone\n", 1<<16))
	if err := os.WriteFile(filepath.Join(clone, "answer"), answer, 0o644); err != nil {
		t.Fatal(err)
	}
	g.run(clone, "add", "answer")
	g.run(clone, "commit", "-q", "-m", "answer")
	g.run(clone, "push", "-q", "origin", "main:answer")
	g.run(origin, "fsck", "--full", "--strict")
	got, want = g.run(origin, "rev-parse", "answer"), g.run(clone, "rev-parse", "main")
	if got != want {
		t.Errorf("after the push: got %s, want %s", got, want)
	}
}
