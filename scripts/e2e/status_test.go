//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"culvert/internal/state"
	"culvert/internal/testnet"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// controlled is a tunnel whose nodes have one runtime folder, so that one `culvert status` sees
// them.
type controlled struct {
	t             *testing.T
	env           []string
	remote, local *node
	startLocal    func() *node
}

// startControlled starts a tunnel with a forward to target, and flags for the remote.
func startControlled(t *testing.T, target string, remoteFlags ...string) *controlled {
	t.Helper()
	c := &controlled{t: t, env: cleanEnv(t)}
	server, client := newIdentity(t), newIdentity(t)
	authorized := writeFile(t, "authorized_keys", client.key+" Ann's laptop\n")
	c.remote = startNode(t, "remote", c.culvert(remoteArgs(server, append(remoteFlags,
		"--authorized-keys", authorized, "--reverse", "localhost")...)...))
	c.startLocal = func() *node {
		return startNode(t, "local", c.culvert(localArgs(client, server, c.remote.url(),
			"--name", "laptop", "-L", "0:"+target)...))
	}
	c.local = c.startLocal()
	return c
}

func (c *controlled) culvert(args ...string) *exec.Cmd {
	return command(c.env, c.t.TempDir(), program, args...)
}

// run runs a culvert command that succeeds, and returns what it prints.
func (c *controlled) run(args ...string) string {
	c.t.Helper()
	return must(c.t, patience, c.culvert(args...))
}

// state returns what `culvert status --json` reports, once it is as the schema has it.
func (c *controlled) state(name string) (s state.State) {
	c.t.Helper()
	text := c.run("status", name, "--json")
	validate(c.t, text)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// validate checks a text against docs/state.schema.json, and that the schema has all its fields.
func validate(t *testing.T, text string) {
	t.Helper()
	schema, err := os.ReadFile("../../docs/state.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	strict := bytes.ReplaceAll(schema, []byte(`"type": "object",`),
		[]byte(`"type": "object", "additionalProperties": false,`))
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(strict))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("state.schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("state.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = compiled.Validate(value)
	}
	if err != nil {
		t.Errorf("not as docs/state.schema.json has it: %v\n%s", err, text)
	}
}

// startFlood starts a target that sends as long as somebody reads, some 6 MB a second.
func startFlood(t *testing.T) (address string) {
	return testnet.ServeTCP(t, func(conn *net.TCPConn) {
		piece := make([]byte, 64<<10)
		for pause := time.NewTicker(10 * time.Millisecond); ; <-pause.C {
			if _, err := conn.Write(piece); err != nil {
				pause.Stop()
				return
			}
		}
	})
}

// keepReading reads from an address until the test ends.
func keepReading(t *testing.T, address string) {
	t.Helper()
	conn := testnet.Dial(t, address, 2*time.Minute)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

// TestStatus looks at a download through the control sockets of both nodes: as JSON, as a table,
// and in a terminal.
func TestStatus(t *testing.T) {
	t.Parallel()
	target := startFlood(t)
	c := startControlled(t, target)
	keepReading(t, c.local.forwards[0])
	for _, name := range []string{"laptop", "remote-1"} {
		testnet.Poll(t, patience, name+" reports the download", func() bool {
			s := c.state(name)
			return len(s.Sessions) == 1 && len(s.Streams) == 1 && s.Streams[0].Target == target &&
				s.Streams[0].SentRate+s.Streams[0].ReceivedRate > 1000 &&
				s.Totals.SentBytes+s.Totals.ReceivedBytes > 1000
		})
	}
	validate(t, c.run("status", "--json"))
	list := c.run("status")
	for _, name := range []string{"laptop", "remote-1"} {
		if !strings.Contains(list, "\n"+name+" ") {
			t.Errorf("%s is not in the list\n%s", name, list)
		}
	}
	shown := c.run("status", "remote-1")
	for _, text := range []string{"\nAnn's laptop ", "127.0.0.1", "B/s", "session_up", target} {
		if !strings.Contains(shown, text) {
			t.Errorf("no %q in\n%s", text, shown)
		}
	}
	for line := range strings.Lines(shown) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("a line is longer than 80 columns: %q", line)
		}
	}
	watchInTerminal(t, c)
	download := c.state("laptop").Streams[0]
	c.run("stop", "laptop")
	testnet.Poll(t, patience, "the remote's totals keep what the session carried", func() bool {
		s := c.state("remote-1")
		return len(s.Sessions) == 0 && s.Totals.SentBytes >= download.ReceivedBytes
	})
}

// watchInTerminal watches the local in a terminal of 80 columns, until its picture has changed.
func watchInTerminal(t *testing.T, c *controlled) {
	tmux := func(args ...string) *exec.Cmd {
		args = append([]string{"-f", os.DevNull, "-S", filepath.Join(c.home(), "tmux")}, args...)
		return command(append(c.env, "TERM=xterm"), t.TempDir(), needProgram(t, "tmux"), args...)
	}
	must(t, patience, tmux("new-session", "-d", "-x", "80", "-y", "24",
		program, "status", "--watch", "laptop"))
	defer func() { must(t, patience, tmux("kill-server")) }()
	pictures := map[string]bool{}
	var last string
	testnet.Poll(t, patience, "the picture is redrawn", func() bool {
		last = must(t, patience, tmux("capture-pane", "-p"))
		if strings.HasPrefix(last, "laptop ") && strings.Contains(last, "STREAM TO") {
			pictures[last] = true
		}
		return len(pictures) >= 3
	})
	for line := range strings.Lines(last) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("a line doesn't fit: %q", line)
		}
	}
	if strings.Count(last, "STREAM TO") != 1 {
		t.Errorf("pictures are below each other:\n%s", last)
	}
}

// home returns the folder in which the nodes have their sockets.
func (c *controlled) home() string {
	for _, v := range c.env {
		if dir, ok := strings.CutPrefix(v, "XDG_RUNTIME_DIR="); ok {
			return dir
		}
	}
	c.t.Fatal("no runtime folder")
	return ""
}

// TestForwardChanges adds forwards to a running local and cancels them, with streams open.
func TestForwardChanges(t *testing.T) {
	t.Parallel()
	echo := testnet.EchoServer(t)
	c := startControlled(t, echo)
	first := testnet.Dial(t, c.local.forwards[0], patience)
	echoes := func(what string, conn net.Conn) {
		t.Helper()
		if err := testnet.CheckEcho(conn, "ping"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	echoes("the forward from the start", first)
	var open []net.Conn
	for _, spec := range [][]string{{"-L", "0:" + echo}, {"-R", "localhost:0:" + echo}} {
		address := strings.TrimSpace(c.run("forward", "add", "laptop", spec[0], spec[1]))
		conn := testnet.Dial(t, address, patience)
		echoes(spec[0], conn)
		c.run("forward", "cancel", "laptop", spec[0], spec[1])
		open = append(open, conn)
		testnet.Poll(t, patience, spec[0]+" is cancelled", func() bool {
			late, err := net.Dial("tcp", address)
			if err == nil {
				late.Close()
			}
			return err != nil
		})
	}
	c.run("forward", "cancel", "laptop", "-L", "0:"+echo) // the one from the start
	for _, conn := range append(open, first) {
		echoes("a connection that was open", conn)
	}
	if listen := c.state("laptop").Node.Listen; len(listen) != 1 {
		t.Errorf("listening: %+v, want the proxy's port alone", listen)
	}
}

// TestControlOfOthers checks that another user gets nothing from a control socket, even one whose
// folder was opened to everybody since.
func TestControlOfOthers(t *testing.T) {
	t.Parallel()
	needRoot(t, "it runs a client as another user")
	c := startControlled(t, testnet.EchoServer(t))
	folder := filepath.Join(c.home(), "culvert")
	socket := filepath.Join(folder, "laptop.sock")
	ask := []string{needProgram(t, "curl"), "--silent", "--show-error", "--unix-socket", socket,
		"http://culvert/v1/state"}
	stranger := append([]string{"--reuid=65534", "--regid=65534", "--clear-groups"}, ask...)
	if got := must(t, patience, command(c.env, "/", ask[0], ask[1:]...)); !strings.Contains(got,
		`"version":1`) {
		t.Fatalf("the user's own request gets %q", got)
	}
	refused := func(when string) {
		t.Helper()
		got := run(t, patience, command(c.env, "/", needProgram(t, "setpriv"), stranger...))
		if got.status == 0 || got.stdout != "" {
			t.Errorf("%s: status %d, %q", when, got.status, got.stdout)
		}
	}
	refused("with the modes that the node has chosen")
	for path, mode := range map[string]os.FileMode{
		filepath.Dir(c.home()): 0o755, c.home(): 0o755, folder: 0o755, socket: 0o666,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	refused("with modes that let everybody in")
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	c.run("status", "laptop")
}

// TestControlAfterKill checks that the socket of a node that was killed is in nobody's way.
func TestControlAfterKill(t *testing.T) {
	t.Parallel()
	c := startControlled(t, testnet.EchoServer(t))
	c.local.signal(syscall.SIGKILL)
	<-c.local.exited
	if list := c.run("status"); strings.Contains(list, "laptop") {
		t.Errorf("a node that was killed is listed\n%s", list)
	}
	c.startLocal()
	if s := c.state("laptop"); len(s.Sessions) != 1 {
		t.Errorf("the next one has %d sessions", len(s.Sessions))
	}
	again := run(t, patience, c.culvert("remote", "--allow-anyone", "--listen", "127.0.0.1:0",
		"--name", "laptop"))
	if again.status != 6 || !strings.Contains(again.stderr, "a node with this name is running") {
		t.Errorf("a second node with the name: status %d\n%s", again.status, again.stderr)
	}
}
