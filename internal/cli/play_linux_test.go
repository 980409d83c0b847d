package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/cli/exit"
)

// documents are the files that users read, relative to the repository's root.
var documents = []string{
	"README.md",
	"docs/CONTRIBUTING.md",
	"docs/architecture.md",
	"docs/benchmarks.md",
	"docs/cli.md",
	"docs/comparison.md",
	"docs/deploy.md",
	"docs/failover.md",
	"docs/fuzzing.md",
	"docs/http-proxy.md",
	"docs/install.md",
	"docs/limits.md",
	"docs/metrics.md",
	"docs/operation.md",
	"docs/rules.md",
	"docs/scale.md",
	"docs/soak.md",
	"docs/speed.md",
	"docs/status.md",
	"docs/threat-model.md",
	"docs/tutorial-reverse.md",
	"docs/tutorial-browser.md",
	"docs/tutorial-scripts.md",
	"docs/tutorial-single-port.md",
	"docs/tutorial-ssh.md",
	"docs/tutorial-tls.md",
	"docs/tutorial-udp.md",
}

// playTimeout bounds the commands of one document.
const playTimeout = 2 * time.Minute

// TestDocuments runs the commands in the documents' ```console blocks, in their order, and compares
// what they print. A process in its own namespaces plays each document, so that the ports and names
// in it are free: see playMain.
func TestDocuments(t *testing.T) {
	for _, program := range []string{
		"unshare", "ip", "mount", "curl", "dig", "/usr/sbin/dnsmasq", "ssh", "/usr/sbin/sshd",
		"openssl", "/usr/sbin/nginx", "/usr/sbin/haproxy",
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: `make test-deps` installs it", err)
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(documents)-1 {
		t.Errorf("docs/ holds %d documents, but %d are played", len(found), len(documents)-1)
	}
	for _, name := range documents {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			if output, err := playDocument(t, filepath.Join(root, name)); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// TestLoopbackOfAnotherMachine checks that no transcript can show what only works since all of its
// machines are one: nobody connects to the 127.0.0.1 of another machine.
func TestLoopbackOfAnotherMachine(t *testing.T) {
	t.Parallel()
	const text = "```console\n" +
		"exit$ culvert remote --listen ADDRESS:8080 --allow-anyone --log-level error\n```\n\n" +
		"<!-- exit$ until culvert status remote-1 >out 2>&1; do sleep 0.1; done -->\n\n" +
		"```console\n" +
		"laptop$ culvert check --accept-new ws://exit.example.org:8080/ | tail -n 1\n" +
		"the tunnel works\n```\n"
	for address, works := range map[string]bool{"": true, "192.0.2.10": true, "127.0.0.1": false} {
		path := filepath.Join(t.TempDir(), "document.md")
		document := strings.ReplaceAll(text, "ADDRESS", address)
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := playDocument(t, path)
		if refused := strings.Contains(string(output), "connection refused"); works != (err == nil) ||
			works == refused {
			t.Errorf("--listen %s:8080: %v\n%s", address, err, output)
		}
	}
}

// playDocument plays a document in a process of its own, and returns what that has printed.
func playDocument(t *testing.T, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), playTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare",
		"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"play", path, t.TempDir())
	ours := func(v string) bool { // and a folder of sockets that documents would share
		return strings.HasPrefix(v, "CULVERT_") || strings.HasPrefix(v, "XDG_RUNTIME_DIR=")
	}
	// The documents show what a terminal shows.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), ours), "GORACE=atexit_sleep_ms=0",
		"CULVERT_LOG_FORMAT=console")
	return cmd.CombinedOutput()
}

// TestMakeRun checks that `make run` is what setStage replaces it with, once culvert is built.
func TestMakeRun(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^run: build\b.*\n\t\./build/culvert demo\n\n`).Match(makefile) {
		t.Error("make run does something else")
	}
}

func init() { programs["play"] = playMain }

// playMain plays the document that its first argument names, in the empty folder that its second
// names. It needs its own network, mount and process namespaces, in which it sets up what the
// documents assume:
//
//   - names of hosts, whose addresses are all this machine's
//   - a web page on port 80, an sshd on port 22, and a DNS server on port 53 that knows these names
//   - a home folder for each machine that a prompt names, as in "laptop$ culvert keygen"
//
// A hidden step may read the document, as $DOCUMENT, to use a snippet that it shows.
//
// A command that doesn't end, such as culvert remote, is left running until the next heading of the
// second level, and has to stop cleanly then.
func playMain() {
	if err := play(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(document, dir string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	blocks, err := findBlocks(string(text))
	if err != nil {
		return err
	}
	if err := setStage(dir); err != nil {
		return err
	}
	p := &player{dir: dir, bound: map[string]string{}}
	section := 0
	for _, b := range blocks {
		if b.section != section {
			section = b.section
			if err := p.stop(); err != nil {
				return err
			}
		}
		steps, err := parseTranscript(b.text)
		if err != nil {
			return fmt.Errorf("line %d: %w", b.line, err)
		}
		for _, step := range steps {
			if err := p.play(step); err != nil {
				return fmt.Errorf("line %d: $ %s%w", b.line, step.command, err)
			}
		}
	}
	return p.stop()
}

// block is a fenced block with commands.
type block struct {
	text    string // with all prompts as "$ ", and "machine=NAME; " before the commands of a machine
	line    int    // the first
	section int    // the number of second-level headings before it
}

var (
	hiddenStep = regexp.MustCompile(`^<!-- ([a-z]+\$ .*) -->\n$`) // a step that the prose describes
	prompt     = regexp.MustCompile(`(?m)^([a-z]+)\$ `)
	shellFence = regexp.MustCompile("^```(sh|bash|shell)")
)

// findBlocks returns the ```console blocks. Fences for shells are errors, since commands in other
// blocks would never be run.
func findBlocks(text string) ([]block, error) {
	var blocks []block
	inside, section, number := "", 0, 0
	for line := range strings.Lines(text) {
		number++
		hidden := hiddenStep.FindStringSubmatch(line)
		switch fence := strings.HasPrefix(line, "```"); {
		case hidden != nil && inside == "":
			text := prompt.ReplaceAllString(hidden[1]+"\n", "$$ machine=$1; ")
			blocks = append(blocks, block{text, number, section})
		case !fence && inside == "console":
			blocks[len(blocks)-1].text += prompt.ReplaceAllString(line, "$$ machine=$1; ")
		case !fence && inside == "" && strings.HasPrefix(line, "## "):
			section++
		case !fence:
		case inside != "":
			inside = ""
		case shellFence.MatchString(line):
			return nil, fmt.Errorf("line %d: commands belong in console blocks, where they are run", number)
		default:
			if inside = strings.TrimSpace(line[3:]); inside == "" {
				inside = "text"
			}
			if inside == "console" {
				blocks = append(blocks, block{line: number, section: section})
			}
		}
	}
	return blocks, nil
}

// Each machine that others reach by name has an address of its own: what listens on 127.0.0.1 at
// exit isn't found at exit.example.org.
const hosts = "127.0.0.1 localhost\n192.0.2.10 exit.example.org\n192.0.2.11 spare.example.org\n" +
	"10.0.0.20 intranet.example git.example\n"

// setStage changes what this process and its children see of the machine.
func setStage(dir string) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	files := map[string]string{
		"hosts":    hosts,
		".curlrc":  "silent\nshow-error\n", // no progress meter, as when curl prints to a terminal
		"bin/make": "#!/bin/sh\n[ \"$*\" = run ] && echo ./build/culvert demo && exec culvert demo\n",
		"sshd_config": "ListenAddress 0.0.0.0\nHostKey " + dir + "/host_key\n" +
			"PidFile none\nStrictModes no\nAuthorizedKeysFile " + dir + "/login_key.pub\n" +
			"PasswordAuthentication no\nUsePAM no\nMaxStartups 100\n",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := errors.Join(
			os.MkdirAll(filepath.Dir(path), 0o700),
			os.WriteFile(path, []byte(text), 0o700))
		if err != nil {
			return err
		}
	}
	sh := &shell{dir: dir, env: append(os.Environ(), "SSH_HOME="+filepath.Join(me.HomeDir, ".ssh"))}
	output, err := sh.run(`set -e
		ip link set lo up
		for address in $(sed 's/ .*//; /^127/d' hosts); do ip address add $address dev lo; done
		mount --bind hosts /etc/hosts
		mount -t tmpfs tmpfs /run
		mkdir -p -m 755 /run/sshd
		mkdir -p "${SSH_HOME%/.ssh}"
		mount -t tmpfs -o mode=700 tmpfs "${SSH_HOME%/.ssh}"
		mkdir -m 700 "$SSH_HOME"
		ssh-keygen -q -t ed25519 -N '' -f host_key
		ssh-keygen -q -t ed25519 -N '' -f login_key
		cp login_key "$SSH_HOME/id_ed25519"
		echo "intranet.example $(cat host_key.pub)" >"$SSH_HOME/known_hosts"
		/usr/sbin/dnsmasq --conf-file=/dev/null --pid-file --user=root --no-resolv \
			--listen-address=127.0.0.1 --bind-interfaces
		/usr/sbin/sshd -f $PWD/sshd_config -E sshd.log >/dev/null 2>&1 # or the shell's pipe stays open`)
	if err != nil || output != "" {
		return fmt.Errorf("setting the stage: %w\n%s", err, output)
	}
	if err := awaitListener("127.0.0.1:22"); err != nil { // sshd goes to the background before
		return err
	}
	if err := os.Setenv("PATH", bin+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	go http.Serve(ln, http.HandlerFunc(servePage)) // ends with the process
	return nil
}

// awaitListener waits until somebody listens on a TCP address.
func awaitListener(address string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// player runs steps. A token in the document, such as a key that keygen printed when the document
// was written, stands for the one printed in its place when the document is played.
type player struct {
	dir     string
	bound   map[string]string // by the document's token
	running []*process
}

// token matches a public key, which may begin and end with -, a port that the system chose, or a
// certificate's gid.
var token = regexp.MustCompile(`[A-Za-z0-9_-]{43}|127\.0\.0\.1:[0-9]{5}` +
	`|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

var (
	machine = regexp.MustCompile(`^machine=([a-z]+); `)
	endless = regexp.MustCompile(`^(culvert (remote|local|demo)|make run)\b`)
)

// keyCreated is the line of the log about the key that the first command on a machine creates. The
// documents leave it out.
var keyCreated = regexp.MustCompile(`(?m)^\S+ INF created a key pair .*\n`)

func leaveOut(text string) string { return keyCreated.ReplaceAllString(text, "") }

func (p *player) play(s step) error {
	home := filepath.Join(p.dir, "home")
	if m := machine.FindStringSubmatch(s.command); m != nil {
		home = filepath.Join(p.dir, "home-"+m[1])
		s.command = s.command[len(m[0]):]
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	command := token.ReplaceAllStringFunc(s.command, func(t string) string {
		if actual, ok := p.bound[t]; ok {
			return actual
		}
		return t
	})
	env := append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "CURL_HOME="+p.dir,
		"DOCUMENT="+os.Args[1])
	sh := &shell{dir: home, env: env}
	if !endless.MatchString(command) || strings.Contains(command, " -W ") ||
		strings.Contains(s.want, "[exit ") {
		got, err := sh.run(command)
		if err != nil {
			return err
		}
		return p.compare(leaveOut(got), s.want)
	}
	args := []string{"bash", "-c", "exec 2>&1; exec " + command}
	running, err := startProcess(sh.dir, sh.env, args, nil)
	if err != nil {
		return err
	}
	p.running = append(p.running, running)
	lines := strings.Count(s.want, "\n")
	enough := func(text string) bool { return strings.Count(leaveOut(text), "\n") >= lines }
	got := leaveOut(running.stdout.await(enough, running.ended))
	if all := strings.SplitAfter(got, "\n"); len(all) > lines {
		got = strings.Join(all[:lines], "")
	}
	return p.compare(got, s.want)
}

// compare compares what was printed with the document, and binds its tokens.
func (p *player) compare(got, want string) error {
	actual, documented := token.FindAllString(got, -1), token.FindAllString(want, -1)
	hide := func(text string) string { return token.ReplaceAllLiteralString(mask(text), "<token>") }
	if hide(got) != hide(want) || len(actual) != len(documented) {
		return differ(got, want)
	}
	for i, t := range documented {
		if bound, ok := p.bound[t]; ok && bound != actual[i] {
			return fmt.Errorf("%s should be %s as before, but is %s", t, bound, actual[i])
		}
		p.bound[t] = actual[i]
	}
	return nil
}

// stop interrupts what is running, the newest first.
func (p *player) stop() error {
	for _, running := range slices.Backward(p.running) {
		if err := running.cmd.Process.Signal(syscall.SIGINT); err != nil {
			return fmt.Errorf("%w; it has printed\n%s", err, running.stdout)
		}
		if status, err := running.wait(); err != nil || status != exit.OK {
			return fmt.Errorf("status %d, %w; it has printed\n%s", status, err, running.stdout)
		}
	}
	p.running = nil
	return nil
}

// TestFindBlocks shows which blocks are played, and that commands can't hide in others.
func TestFindBlocks(t *testing.T) {
	text := "```text\n$ not run\n```\n## One\n```console\n$ a\nb\nlaptop$ c\n```\n" +
		"## Two\n<!-- office$ d -->\n<!-- e -->\n"
	blocks, err := findBlocks(text)
	want := []block{{"$ a\nb\n$ machine=laptop; c\n", 5, 1}, {"$ machine=office; d\n", 11, 2}}
	if err != nil || !slices.Equal(blocks, want) {
		t.Errorf("got %+v, %v", blocks, err)
	}
	for _, bad := range []string{"```sh\nls\n```\n", "```bash\n$ ls\n```\n"} {
		if _, err := findBlocks(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestPlayerCompares shows that playing a document can fail.
func TestPlayerCompares(t *testing.T) {
	p := &player{bound: map[string]string{}}
	one, other, third := strings.Repeat("1", 43), strings.Repeat("2", 43), strings.Repeat("3", 43)
	for _, test := range []struct {
		got, want string
		equal     bool
	}{
		{"key " + one + "\n", "key " + other + "\n", true},
		{"key " + one + " took 1.5 ms\n", "key " + other + "  took    20.0 ms\n", false},
		{one + " 1.5 ms\n", other + "     20.0 ms\n", true},
		{third + "\n", other + "\n", false}, // other stands for one
		{"text\n", "text\n", true},
		{"text\nmore\n", "text\n", false},
		{"text\n", "text\n[exit 1]\n", false},
		{one + "\n", "a key\n", false},
		{"key=-" + one[1:] + "\n", "key=" + third + "\n", true},
		{"http://127.0.0.1:40000/\n", "http://127.0.0.1:50000/\n", true},
		{"http://127.0.0.1:40001/\n", "http://127.0.0.1:50000/\n", false},
		{"http://127.0.0.1:1081/\n", "http://127.0.0.1:1080/\n", false},
	} {
		if err := p.compare(test.got, test.want); (err == nil) != test.equal {
			t.Errorf("%q for %q: %v", test.got, test.want, err)
		}
	}
}
