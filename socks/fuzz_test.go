package socks

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzNegotiation sends any bytes, in pieces of any size, as a client that then
// leaves or falls silent. The server must end the connection in time, say
// nothing that RFC 1928 and 1929 don't know, and dial only "host:port".
func FuzzNegotiation(f *testing.F) {
	for _, tt := range wireTests {
		f.Add([]byte(tt.sent), uint8(len(tt.sent)), tt.auth, false)
		f.Add([]byte(tt.sent+"early data"), uint8(1), tt.auth, true)
	}
	f.Fuzz(func(t *testing.T, sent []byte, step uint8, auth, leaves bool) {
		synctest.Test(t, func(t *testing.T) {
			ln, dialed := wireServer(t, auth)
			conn := ln.dial()
			defer conn.Close()
			began := time.Now()
			go func() {
				for b, n := sent, int(step)+1; len(b) > 0; b = b[min(n, len(b)):] {
					if _, err := conn.Write(b[:min(n, len(b))]); err != nil {
						return
					}
				}
				if leaves {
					conn.Close()
				}
			}()
			said, _ := io.ReadAll(conn) // fails when the client left
			if d := time.Since(began); d > DefaultNegotiationTimeout {
				t.Errorf("ended after %v", d)
			}
			if !isDialogue(said, auth) {
				t.Errorf("server said %x", said)
			}
			synctest.Wait()
			if *dialed == "" {
				return
			}
			if host, port, err := net.SplitHostPort(*dialed); err != nil || host == "" || port == "" || port == "0" {
				t.Errorf("dialed %q", *dialed)
			}
			if auth && !bytes.Contains(sent, []byte(login)) {
				t.Errorf("dialed %q without a login", *dialed)
			}
		})
	})
}

// isDialogue reports whether said is what a server can say in whole messages.
func isDialogue(said []byte, auth bool) bool {
	if len(said) == 0 || string(said) == "\x05\xff" {
		return true
	}
	opening := methodNone
	if auth {
		if string(said) == methodLogin || string(said) == methodLogin+loginFailed {
			return true
		}
		opening = methodLogin + loginOK
	}
	reply, ok := bytes.CutPrefix(said, []byte(opening))
	if !ok || len(reply) == 0 {
		return ok
	}
	return len(reply) == len(success) && reply[0] == socks5Version &&
		reply[1] <= byte(ReplyAddressTypeNotSupported) && string(reply[2:]) == success[2:]
}

// FuzzRequestAddress checks that what a well-formed request names is dialed as
// it is or refused, and never read as another host.
func FuzzRequestAddress(f *testing.F) {
	f.Add("example.com", uint16(80))
	f.Add("", uint16(80))
	f.Add("::1", uint16(443))
	f.Add("[::1]:80", uint16(1))
	f.Add("a:80", uint16(0))
	f.Add("a\x00b", uint16(65535))
	f.Add("fe80::1%eth0", uint16(22))
	f.Fuzz(func(t *testing.T, name string, port uint16) {
		if len(name) > 255 {
			return
		}
		s := newServer(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }})
		near, far := net.Pipe()
		defer far.Close()
		go io.Copy(io.Discard, far)
		go func() {
			far.Write([]byte(greeting + "\x05\x01\x00\x03" + string([]byte{byte(len(name))}) + name +
				string([]byte{byte(port >> 8), byte(port)})))
		}()
		address, err := s.socks5.negotiate(newClientConn(near, func() {}))
		near.Close()
		if err != nil {
			return
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil || host != name || port == 0 {
			t.Errorf("%q, %d became %q: %v", name, port, address, err)
		}
	})
}
