package socks

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzNegotiation sends any bytes, in pieces of any size, as a client that then leaves or falls
// silent. The server must end the connection in time, send only valid messages of the first byte's
// protocol, and dial only "host:port".
func FuzzNegotiation(f *testing.F) {
	f.Add([]byte("CONNECT a.test:443 HTTP/1.1\r\nProxy-Authorization: "+basicLogin+"\r\n\r\n"),
		uint8(7), true, false)
	f.Add([]byte("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\nGET http://b.test/ "+
		"HTTP/1.0\r\n\r\n"), uint8(1), false, false)
	f.Add([]byte("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: "+
		"chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"), uint8(3), false, false)
	f.Add([]byte("\r\npatch http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"), uint8(0), false, false)
	for _, tt := range httpRefusals {
		f.Add([]byte(tt.sent), uint8(20), false, false)
	}
	for _, tt := range slices.Concat(wireTests, wire4Tests) {
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
			if d := time.Since(began); d > longestFor(sent) {
				t.Errorf("ended after %v", d)
			}
			if !isDialogueFor(sent, said, auth) {
				t.Errorf("server said %x", said)
			}
			synctest.Wait()
			if *dialed == "" {
				return
			}
			if host, port, err := net.SplitHostPort(*dialed); err != nil || host == "" ||
				port == "" || port == "0" {
				t.Errorf("dialed %q", *dialed)
			}
			if auth && !bytes.Contains(sent, []byte(login)) &&
				!bytes.Contains(sent, []byte(basicToken)) {
				t.Errorf("dialed %q without a login", *dialed)
			}
		})
	})
}

// longestFor is how long the server may take for a client that falls silent after
// sent. Each line could be the last of an HTTP request.
func longestFor(sent []byte) time.Duration {
	if len(sent) == 0 || !beginsHTTP(sent[0]) {
		return DefaultNegotiationTimeout
	}
	requests := time.Duration(1 + bytes.Count(sent, []byte("\n")))
	return requests * (DefaultNegotiationTimeout + bodyTimeout + keepAliveTimeout + lingerTimeout)
}

// isDialogueFor reports whether said is whole messages that a server can send to a client that
// began with sent.
func isDialogueFor(sent, said []byte, auth bool) bool {
	switch {
	case len(sent) == 0 || len(said) == 0:
		return len(said) == 0
	case sent[0] == socks4Version:
		return string(said) == granted4 && !auth || string(said) == rejected4
	case !beginsHTTP(sent[0]):
		return isDialogue(said, auth)
	}
	in := bufio.NewReader(bytes.NewReader(said))
	for {
		method, _, _ := strings.Cut(strings.TrimLeft(string(sent), "\r\n"), " ")
		if _, err := in.Peek(1); err == io.EOF {
			return true
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return false
		}
		if resp.StatusCode == http.StatusOK && method != http.MethodConnect {
			return false // the targets never answer
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return false
		}
	}
}

// isDialogue reports whether said is whole SOCKS5 messages of a server.
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

// FuzzRequestAddress checks that the target of a well-formed request is dialed as given or refused,
// and never read as another host.
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
		s := newServer(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, io.EOF
		}})
		near, far := net.Pipe()
		defer far.Close()
		go io.Copy(io.Discard, far)
		go func() {
			far.Write([]byte(greeting + "\x05\x01\x00\x03" + string([]byte{byte(len(name))}) +
				name +
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
