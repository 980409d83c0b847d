//go:build linux

package e2e

import (
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A target that the rules forbid gets the reply "not allowed", whether for all clients or for one
// key, by name or by address. Other failures keep their replies. The host's resolver resolves the
// names.
func TestRulesOverSOCKS(t *testing.T) {
	t.Parallel()
	h := newHost(t, "127.0.1.1 open.culvert.test\n127.0.2.1 closed.culvert.test\n"+
		"127.0.2.1 two.culvert.test\n127.0.1.1 two.culvert.test\n169.254.169.254 sneaky.culvert.test\n")
	_, open, err := net.SplitHostPort(h.listen(t, "127.0.1.1:0").Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := net.SplitHostPort(h.listen(t, "127.0.1.1:0").Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, free, bound := newIdentity(t), newIdentity(t), newIdentity(t)
	lines := free.key + "\n" + bound.key + " allow=open.culvert.test:" + open + "\n"
	authorized := writeFile(t, "authorized_keys", lines)
	remote := startNode(t, "remote",
		h.command(t, culvert(t, remoteArgs(server, "--listen", h.addr.String()+":0",
			"--authorized-keys", authorized, "--deny", "127.0.2.0/24",
			"--deny", "forbidden.culvert.test")...)))
	// Fast open would reply with success to clients that reached a target before the rules changed.
	freeLocal := startNode(t, "local",
		culvert(t, localArgs(free, server, remote.url(), "--fast-open", "never")...))
	boundLocal := startNode(t, "restricted local",
		culvert(t, localArgs(bound, server, remote.url(), "--fast-open", "never")...))
	for _, test := range []struct {
		name, target string
		free, bound  byte
	}{
		{"allowed by name", "open.culvert.test:" + open, replyOK, replyOK},
		{"the same in capitals", "OPEN.Culvert.Test:" + open, replyOK, replyOK},
		{"another port", "open.culvert.test:" + other, replyOK, replyNotAllowed},
		{"allowed by name, requested by address", "127.0.1.1:" + open, replyOK, replyNotAllowed},
		{"a name whose first address is denied", "two.culvert.test:" + open, replyOK, replyNotAllowed},
		{"denied by the address of a name", "closed.culvert.test:" + open, replyNotAllowed,
			replyNotAllowed},
		{"denied by address", "127.0.2.1:" + open, replyNotAllowed, replyNotAllowed},
		{"denied by name", "forbidden.culvert.test:80", replyNotAllowed, replyNotAllowed},
		{"metadata by address", "169.254.169.254:80", replyNotAllowed, replyNotAllowed},
		{"metadata by a name for it", "sneaky.culvert.test:80", replyNotAllowed, replyNotAllowed},
		{"metadata by its name", "metadata.google.internal:80", replyNotAllowed, replyNotAllowed},
		{"unspecified", "0.0.0.0:" + open, replyNotAllowed, replyNotAllowed},
		{"refused", "127.0.0.1:1", replyRefused, replyNotAllowed},
		{"name not found", "unknown.culvert.test:80", replyHostUnreach, replyNotAllowed},
		{"network unreachable", noRoute + ":80", replyNetUnreach, replyNotAllowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got := socksConnect(t, freeLocal.socks, test.target); got != test.free {
				t.Errorf("%s: reply %d, want %d", test.target, got, test.free)
			}
			if _, got := socksConnect(t, boundLocal.socks, test.target); got != test.bound {
				t.Errorf("%s for the restricted key: reply %d, want %d", test.target, got, test.bound)
			}
		})
	}

	// SIGHUP changes the rules of an existing session.
	rewrite(t, authorized, free.key+" allow=10.0.0.0/8\n"+bound.key+"\n")
	remote.signal(syscall.SIGHUP)
	remote.stderr.waitLine(t, remote.process, "INF reloaded", patience)
	if _, got := socksConnect(t, boundLocal.socks, "127.0.1.1:"+other); got != replyOK {
		t.Errorf("after SIGHUP: reply %d, want %d", got, replyOK)
	}
	if _, got := socksConnect(t, freeLocal.socks, "127.0.1.1:"+open); got != replyNotAllowed {
		t.Errorf("after SIGHUP: reply %d, want %d", got, replyNotAllowed)
	}
}

// Every other listener refuses a forbidden target too. The log names the target where there is no
// reply, and permitted traffic still passes.
func TestRulesAtOtherListeners(t *testing.T) {
	t.Parallel()
	h := newHost(t, "127.0.2.1 closed.culvert.test\n")
	port := strconv.Itoa(int(startUDPEcho(t, h, "127.0.1.1:0").Port()))
	stolen := startUDPEcho(t, h, "127.0.2.1:"+port)
	serveOn(t, h.listen(t, "127.0.2.1:"+port),
		func(http.ResponseWriter, *http.Request) { t.Error("a forbidden target was reached") })
	socket := filepath.Join(t.TempDir(), "forbidden")
	server, client := newIdentity(t), newIdentity(t)
	remote := startNode(t, "remote",
		h.command(t, culvert(t, remoteArgs(server, "--listen", h.addr.String()+":0",
			"--authorized-keys", writeFile(t, "authorized_keys", client.key+"\n"),
			"--deny", "127.0.2.0/24", "--reverse", "127.0.0.1:1")...)))
	closed := "closed.culvert.test:" + port
	local := startNode(t, "local", culvert(t,
		localArgs(client, server, remote.url(), "-L", "0:"+closed, "-L", "0:127.0.2.1:"+port+"/udp",
			"-L", "0:unix:"+socket, "-L", "0:127.0.1.1:"+port+"/udp")...))

	for i, target := range map[int]string{0: closed, 2: "unix:" + socket} {
		r := run(t, patience, bareCurl(t, patience, "http://"+local.forwards[i]+"/"))
		// The reset may arrive before curl's connect(2) returns.
		if r.status != curlRecvError && r.status != curlConnect {
			t.Errorf("-L to %s: status %d, %q", target, r.status, r.stderr)
		}
		line := local.stderr.waitLine(t, local.process, "target="+target, patience)
		if !strings.Contains(line, "not allowed by the remote's rules") {
			t.Errorf("-L to %s: logged %q", target, line)
		}
	}
	forbidden := dialDatagrams(t, strings.TrimSuffix(local.forwards[1], "/udp"))
	allowed := dialDatagrams(t, strings.TrimSuffix(local.forwards[3], "/udp"))
	forbidden.Write([]byte("forbidden"))
	refusal := local.stderr.waitLine(t, local.process, "target=127.0.2.1:"+port, patience)
	if !strings.Contains(refusal, "forward refused") ||
		!strings.Contains(refusal, "not allowed by the remote's rules") {
		t.Errorf("-L …/udp: logged %q", refusal)
	}
	allowed.Write([]byte("allowed"))
	if got := readAgain(t, allowed, []byte("allowed")); string(got) != "allowed" {
		t.Errorf("received %q", got)
	}
	forbidden.SetReadDeadline(time.Now())
	if n, err := forbidden.Read(make([]byte, 100)); err == nil {
		t.Errorf("-L …/udp: %d bytes came back", n)
	}

	c := startUDPClient(t, local.socks)
	for _, host := range []string{"closed.culvert.test", "127.0.2.1", "::ffff:127.0.2.1"} {
		c.send(t, host, stolen.Port(), []byte("forbidden"))
	}
	for range 5 { // answers to the datagrams above would arrive before these
		if d := c.ask(t, "127.0.1.1", stolen.Port(), []byte("allowed")); string(d.Data) != "allowed" {
			t.Errorf("UDP ASSOCIATE: %s:%d answers %q", d.Host, d.Port, d.Data)
		}
	}

	for _, test := range []struct {
		flags  []string
		status int
		stderr string
	}{
		{[]string{"-W", closed}, 1, closed + ": not allowed by the remote's rules\n"},
		{[]string{"-W", "unix:" + socket}, 1, "unix:" + socket + ": not allowed by the remote's rules\n"},
		{[]string{"-R", "2:localhost:22"}, exitNotAdmitted,
			"can't listen on localhost:2 at the remote: not allowed by the remote's rules\n"},
		{[]string{"-R", "2:localhost:53/udp"}, exitNotAdmitted,
			"can't listen on localhost:2/udp at the remote: not allowed by the remote's rules\n"},
	} {
		r := run(t, patience,
			culvert(t, append(append([]string{"local", "--key", client.file, "--remote-key", server.key,
				"--socks", "none", "--log-level", "error"}, test.flags...), remote.url())...))
		if r.status != test.status || !strings.Contains(r.stderr, test.stderr) {
			t.Errorf("%v: status %d, want %d, and %q, want %q", test.flags, r.status, test.status, r.stderr,
				test.stderr)
		}
	}
	forbiddenRun := culvert(t, "run", "--key", client.file, "--remote-key", server.key, remote.url(),
		"--", needProgram(t, "curl"), "-q", "--silent",
		"--output", "/dev/null", "--write-out", "%{http_code}", "http://"+closed+"/")
	if r := run(t, patience, forbiddenRun); r.stdout != "403" {
		t.Errorf("run: status %d, %q, %s", r.status, r.stdout, r.stderr)
	}
}
