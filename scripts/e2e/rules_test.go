package e2e

import (
	"net"
	"syscall"
	"testing"
)

// Every way to ask for a target that the rules forbid has the reply "not allowed", for all clients and for one key, by name
// and by address, and each other failure keeps its own. The names are those of the host's resolver.
func TestRulesAtSocksDoor(t *testing.T) {
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
	remote := startNode(t, "remote", h.command(t, culvert(t, remoteArgs(server, "--listen", h.addr.String()+":0",
		"--authorized-keys", authorized, "--deny", "127.0.2.0/24", "--deny", "forbidden.culvert.test")...)))
	freeLocal := startNode(t, "local", culvert(t, localArgs(free, server, remote.url())...))
	boundLocal := startNode(t, "restricted local", culvert(t, localArgs(bound, server, remote.url())...))
	for _, test := range []struct {
		name, target string
		free, bound  byte
	}{
		{"allowed by name", "open.culvert.test:" + open, replyOK, replyOK},
		{"the same in capitals", "OPEN.Culvert.Test:" + open, replyOK, replyOK},
		{"another port", "open.culvert.test:" + other, replyOK, replyNotAllowed},
		{"allowed by name, asked for by address", "127.0.1.1:" + open, replyOK, replyNotAllowed},
		{"a name whose first address is denied", "two.culvert.test:" + open, replyOK, replyNotAllowed},
		{"denied by the address of a name", "closed.culvert.test:" + open, replyNotAllowed, replyNotAllowed},
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

	// SIGHUP changes the rules of a session that exists.
	rewrite(t, authorized, free.key+" allow=10.0.0.0/8\n"+bound.key+"\n")
	remote.signal(syscall.SIGHUP)
	remote.stderr.waitLine(t, remote.process, "culvert: reloaded", patience)
	if _, got := socksConnect(t, boundLocal.socks, "127.0.1.1:"+other); got != replyOK {
		t.Errorf("after SIGHUP: reply %d, want %d", got, replyOK)
	}
	if _, got := socksConnect(t, freeLocal.socks, "127.0.1.1:"+open); got != replyNotAllowed {
		t.Errorf("after SIGHUP: reply %d, want %d", got, replyNotAllowed)
	}
}
