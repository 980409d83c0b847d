package socks

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

// Literal pieces of the wire.
const (
	request4  = "\x04\x01\x00\x50\xc0\x00\x02\x07me\x00"
	request4a = "\x04\x01\x01\xbb\x00\x00\x00\x01me\x00example.com\x00"
	granted4  = "\x00\x5a\x00\x00\x00\x00\x00\x00"
	rejected4 = "\x00\x5b\x00\x00\x00\x00\x00\x00"
)

var wire4Tests = []wireTest{
	{"4 ipv4", false, request4, granted4, "192.0.2.7:80"},
	{"4 no user", false, "\x04\x01\x00\x50\xc0\x00\x02\x07\x00", granted4, "192.0.2.7:80"},
	{"4 longest user", false, "\x04\x01\x00\x50\xc0\x00\x02\x07" + name255 + "\x00", granted4,
		"192.0.2.7:80"},
	{"4a name", false, request4a, granted4, "example.com:443"},
	{"4a longest name", false, "\x04\x01\xff\xff\x00\x00\x00\xff\x00" + name255 + "\x00", granted4,
		name255 + ":65535"},
	{"4a utf-8 name", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00b\u00fccher.test\x00", granted4,
		"b\u00fccher.test:80"},
	{"4a name of an ipv6 address", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00::1\x00", granted4,
		"[::1]:80"},
	{"4 address 0.0.0.0 is no mark of a name", false, "\x04\x01\x00\x50\x00\x00\x00\x00\x00",
		granted4, "0.0.0.0:80"},

	{"4 with authentication on", true, request4, rejected4, ""},
	{"4a with authentication on", true, request4a, rejected4, ""},
	{"4 the user id is no password", true, "\x04\x01\x00\x50\xc0\x00\x02\x07alice\x00", rejected4,
		""},
	{"4 bind", false, "\x04\x02\x00\x50\xc0\x00\x02\x07\x00", rejected4, ""},
	{"4 unknown command", false, "\x04\x00\x00\x50\xc0\x00\x02\x07\x00", rejected4, ""},
	{"4 port 0", false, "\x04\x01\x00\x00\xc0\x00\x02\x07\x00", rejected4, ""},
	{"4 long user", false, "\x04\x01\x00\x50\xc0\x00\x02\x07" + name255 + "x", rejected4, ""},
	{"4a long name", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00" + name255 + "x", rejected4, ""},
	{"4a empty name", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", rejected4, ""},
	{"4a name with line feed", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00a\nb\x00", rejected4,
		""},
	{"4a name with space", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00a b\x00", rejected4, ""},
	{"4a name with bracket", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00[::1]\x00", rejected4, ""},
	{"4a name not utf-8", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00a\xffb\x00", rejected4, ""},
}

// TestSOCKS4Replies: every failure of a dial is code 91.
func TestSOCKS4Replies(t *testing.T) {
	for r := range 256 {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener()
			serve(t, newServer(t, Config{
				Dial: dialFails(errors.New("no")), Classify: func(error) Reply { return Reply(r) },
			}), ln)
			conn := ln.dial()
			defer conn.Close()
			go io.WriteString(conn, request4a)
			if got, err := io.ReadAll(conn); err != nil || string(got) != rejected4 {
				t.Errorf("reply %d: got %x, %v", r, got, err)
			}
		})
	}
}

// TestMegabyteName: a client that sends a name without an end, or an HTTP head without one, gets a
// reply and is cut off, and is not read for long.
func TestMegabyteName(t *testing.T) {
	const tooLarge = "HTTP/1.1 431 "
	for prefix, want := range map[string]string{
		"\x04\x01\x00\x50\x00\x00\x00\x01\x00":       rejected4, // the name
		"\x04\x01\x00\x50\x00\x00\x00\x01":           rejected4, // the user id
		"CONNECT ":                                   tooLarge,
		"GET http://":                                tooLarge,
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n": tooLarge,
		"G":      tooLarge,
		greeting: methodNone, // what follows is no request
	} {
		synctest.Test(t, func(t *testing.T) {
			ln, dialed := wireServer(t, false)
			conn := ln.dial()
			defer conn.Close()
			sent := make(chan int, 1)
			go func() {
				n, _ := io.WriteString(conn, prefix+strings.Repeat("a", 1<<20))
				sent <- n
			}()
			got, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(got), want) {
				t.Errorf("%q: got %q, %v", prefix, got, err)
			}
			if n := <-sent; n > maxHead+lingerBytes || *dialed != "" {
				t.Errorf("%q: %d bytes read, dialed %q", prefix, n, *dialed)
			}
		})
	}
}
