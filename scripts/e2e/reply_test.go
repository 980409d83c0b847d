//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Values of the reply field of RFC 1928, section 6.
const (
	replyOK          = 0
	replyNotAllowed  = 2
	replyNetUnreach  = 3
	replyHostUnreach = 4
	replyRefused     = 5
)

// socksConnect asks a SOCKS5 server to connect to a name or an IPv4 address, and returns the
// connection and the reply.
func socksConnect(t *testing.T, server, target string) (net.Conn, byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", server, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	name, portText, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	request := []byte{5, 1, 0 /* the methods: no authentication */, 5, 1, 0}
	if ip := net.ParseIP(name).To4(); ip != nil {
		request = append(append(request, 1), ip...)
	} else {
		request = append(append(request, 3, byte(len(name))), name...)
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint16(request, uint16(port))); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 2+10) // the method, and a reply with an IPv4 address
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Fatalf("%s: the reply: %v", target, err)
	}
	if !bytes.Equal(answer[:3], []byte{5, 0, 5}) || answer[5] != 1 {
		t.Fatalf("%s: not a reply: %v", target, answer)
	}
	return conn, answer[3]
}

// Each cause of failure to reach a target has its own reply, whether it comes from the remote's
// kernel or its resolver.
func TestSocksReplies(t *testing.T) {
	t.Parallel()
	h := newHost(t, "127.0.1.1 known.culvert.test\n")
	tun := startFarTunnel(t, h)
	ln := h.listen(t, "127.0.1.1:0")
	_, open, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Nothing listens on port 1 of the host.
	for _, test := range []struct {
		name, target string
		want         byte
	}{
		{"reached by address", "127.0.1.1:" + open, replyOK},
		{"reached by name", "known.culvert.test:" + open, replyOK},
		{"refused by address", "127.0.0.1:1", replyRefused},
		{"refused by name", "known.culvert.test:1", replyRefused},
		{"name not found", "unknown.culvert.test:80", replyHostUnreach},
		{"host unreachable", noHost + ":80", replyHostUnreach},
		{"network unreachable", noRoute + ":80", replyNetUnreach},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, got := socksConnect(t, tun.local.socks, test.target)
			if got != test.want {
				t.Errorf("%s: reply %d, want %d", test.target, got, test.want)
			}
			if got == replyOK {
				return
			}
			if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after the reply: %d bytes, %v, want end of file", n, err)
			}
		})
	}
}

// curl shows its user the cause that the reply carries.
func TestCurlShowsReply(t *testing.T) {
	t.Parallel()
	tun := startFarTunnel(t, newHost(t, ""))
	const couldNotConnectProxy = 97 // curl(1): an error of the proxy's handshake
	for target, reply := range map[string]string{
		"127.0.0.1:1":             "(5)",
		"unknown.culvert.test:80": "(4)",
	} {
		r := run(t, patience, curl(t, tun.local.socks, patience, "http://"+target+"/"))
		if r.status != couldNotConnectProxy || !strings.Contains(r.stderr, reply) {
			t.Errorf("%s: status %d, %q; want %d and %s", target, r.status, r.stderr, couldNotConnectProxy,
				reply)
		}
	}
}
