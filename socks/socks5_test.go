package socks

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// Literal pieces of the wire.
const (
	greeting      = "\x05\x01\x00"     // version 5, one method: none
	greetingAuth  = "\x05\x02\x00\x02" // two methods: none, user/password
	login         = "\x01\x05alice\x06secret"
	requestIPv4   = "\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb"
	requestName   = "\x05\x01\x00\x03\x0bexample.com\x00\x50"
	methodNone    = "\x05\x00"
	methodLogin   = "\x05\x02"
	loginOK       = "\x01\x00"
	loginFailed   = "\x01\x01"
	success       = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	replyGeneral  = "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"
	replyCommand  = "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"
	replyAddrType = "\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"
)

var name255 = strings.Repeat("x", 255)

// wireTest is a conversation.
type wireTest struct {
	name   string
	auth   bool // alice, secret
	sent   string
	want   string // everything the client gets until the server closes
	dialed string // empty: nothing is dialed
}

var wireTests = []wireTest{
	{"ipv4", false, greeting + requestIPv4, methodNone + success, "192.0.2.7:443"},
	{"ipv6", false, greeting +
		"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
		methodNone + success, "[2001:db8::1]:80"},
	{"ipv4 in ipv6", false, greeting +
		"\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07\x00\x50",
		methodNone + success, "192.0.2.7:80"},
	{"name", false, greeting + requestName, methodNone + success, "example.com:80"},
	{"name of 255 bytes", false, greeting + "\x05\x01\x00\x03\xff" + name255 + "\xff\xff",
		methodNone + success, name255 + ":65535"},
	{"name of an ipv6 address", false, greeting + "\x05\x01\x00\x03\x03::1\x00\x50",
		methodNone + success, "[::1]:80"},
	{"utf-8 name", false, greeting + "\x05\x01\x00\x03\x0cb\u00fccher.test\x00\x50",
		methodNone + success, "b\u00fccher.test:80"},
	{"255 methods", false, "\x05\xff" + strings.Repeat("\x80", 254) + "\x00" + requestIPv4,
		methodNone + success, "192.0.2.7:443"},
	{"reserved byte set", false, greeting + "\x05\x01\xff\x01\xc0\x00\x02\x07\x01\xbb",
		methodNone + success, "192.0.2.7:443"},
	{"user and password", true, greetingAuth + login + requestIPv4, methodLogin + loginOK + success,
		"192.0.2.7:443"},

	{"no methods", false, "\x05\x00", "\x05\xff", ""},
	{"255 methods, none known", false, "\x05\xff" + strings.Repeat("\x80", 255), "\x05\xff", ""},
	{"login offered, none wanted", false, "\x05\x01\x02", "\x05\xff", ""},
	{"login wanted, none offered", true, greeting, "\x05\xff", ""},
	{"wrong password", true, greetingAuth + "\x01\x05alice\x06secreT", methodLogin + loginFailed,
		""},
	{"password's prefix", true, greetingAuth + "\x01\x05alice\x05secre", methodLogin + loginFailed,
		""},
	{"unknown user", true, greetingAuth + "\x01\x03bob\x06secret", methodLogin + loginFailed, ""},
	{"shifted boundary", true, greetingAuth + "\x01\x06alices\x05ecret", methodLogin + loginFailed,
		""},
	{"empty user and password", true, greetingAuth + "\x01\x00\x00", methodLogin + loginFailed, ""},
	{"longest user and password", true, greetingAuth + "\x01\xff" + name255 + "\xff" + name255,
		methodLogin + loginFailed, ""},
	{"login of another version", true, greetingAuth + "\x05\x05alice\x06secret", methodLogin, ""},
	{"request instead of login", true, greetingAuth + requestIPv4, methodLogin, ""},

	{"bind", false, greeting + "\x05\x02\x00\x01\xc0\x00\x02\x07\x01\xbb",
		methodNone + replyCommand, ""},
	{"udp associate", false, greeting + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00",
		methodNone + replyCommand, ""},
	{"unknown command", false, greeting + "\x05\x09\x00\x01\xc0\x00\x02\x07\x01\xbb",
		methodNone + replyCommand, ""},
	{"unknown address type", false, greeting + "\x05\x01\x00\x02\xc0\x00\x02\x07\x01\xbb",
		methodNone + replyAddrType, ""},
	{"address type 0", false, greeting + "\x05\x01\x00\x00", methodNone + replyAddrType, ""},
	{"port 0", false, greeting + "\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x00",
		methodNone + replyGeneral, ""},
	{"empty name", false, greeting + "\x05\x01\x00\x03\x00\x00\x50", methodNone + replyGeneral, ""},
	{"name with NUL", false, greeting + "\x05\x01\x00\x03\x03a\x00b\x00\x50",
		methodNone + replyGeneral, ""},
	{"name with line feed", false, greeting + "\x05\x01\x00\x03\x03a\nb\x00\x50",
		methodNone + replyGeneral, ""},
	{"name with space", false, greeting + "\x05\x01\x00\x03\x03a b\x00\x50",
		methodNone + replyGeneral, ""},
	{"name with DEL", false, greeting + "\x05\x01\x00\x03\x03a\x7fb\x00\x50",
		methodNone + replyGeneral, ""},
	{"name with bracket", false, greeting + "\x05\x01\x00\x03\x05[::1]\x00\x50",
		methodNone + replyGeneral, ""},
	{"name not utf-8", false, greeting + "\x05\x01\x00\x03\x03a\xffb\x00\x50",
		methodNone + replyGeneral, ""},
	{"request of version 4", false, greeting + "\x04\x01\x00\x01\xc0\x00\x02\x07\x01\xbb",
		methodNone, ""},

	{"tls", false, "\x16\x03\x01", "", ""},
	{"no token", false, "<get", "", ""},
}

// wireServer serves on pipes inside a synctest bubble. Its targets are at their end of file. dialed
// returns what was dialed last.
func wireServer(t *testing.T, auth bool) (ln *pipeListener, dialed *string) {
	dialed = new(string)
	cfg := Config{Dial: func(_ context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" {
			t.Errorf("dialed network %q", network)
		}
		*dialed = address
		near, far := net.Pipe()
		far.Close()
		return near, nil
	}}
	// The targets have no half-close, so one end of file ends this relay.
	cfg.Relay = func(_ context.Context, client, target net.Conn) error {
		_, err := io.Copy(client, target)
		return err
	}
	if auth {
		cfg.Username, cfg.Password = "alice", "secret"
	}
	ln = newPipeListener()
	serve(t, newServer(t, cfg), ln)
	return ln, dialed
}

func TestWire(t *testing.T) {
	for _, tt := range slices.Concat(wireTests, wire4Tests) {
		for _, step := range []int{1, 3, len(tt.sent)} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ln, dialed := wireServer(t, tt.auth)
					conn := ln.dial()
					defer conn.Close()
					go func() {
						// The server may close before it has read all.
						for b := []byte(tt.sent); len(b) > 0; b = b[min(step, len(b)):] {
							if _, err := conn.Write(b[:min(step, len(b))]); err != nil {
								return
							}
						}
					}()
					began := time.Now()
					got, err := io.ReadAll(conn)
					if err != nil || string(got) != tt.want {
						t.Errorf("got %x, %v; want %x", got, err, tt.want)
					}
					if d := time.Since(began); d != 0 {
						t.Errorf("the server closed after %v, not at once", d)
					}
					if *dialed != tt.dialed {
						t.Errorf("dialed %q, want %q", *dialed, tt.dialed)
					}
				})
			})
		}
	}
}

// cutShortTests are conversations, with what the server has sent after how many bytes of the
// client's.
var cutShortTests = []struct {
	auth bool
	sent string
	said []saidAfter
}{
	{false, greeting + requestName, []saidAfter{{3, methodNone}}},
	{true, greetingAuth + login + requestIPv4,
		[]saidAfter{{4, methodLogin}, {4 + len(login), loginOK}}},
	{false, request4a, nil},
	{false, "CONNECT a.test:443 HTTP/1.1\r\n\r\n", nil},
	{false, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", nil},
}

type saidAfter struct {
	bytes int
	what  string
}

// TestCutShort ends a client after each byte of a conversation: with a
// half-close, and by falling silent until the negotiation times out.
func TestCutShort(t *testing.T) {
	for _, tt := range cutShortTests {
		cfg := Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialed for half a request")
			return nil, io.EOF
		}}
		if tt.auth {
			cfg.Username, cfg.Password = "alice", "secret"
		}
		addr := startServer(t, cfg)
		for n := range len(tt.sent) {
			want := ""
			for _, said := range tt.said {
				if n >= said.bytes {
					want += said.what
				}
			}
			conn := connect(t, addr)
			mustWrite(t, conn, tt.sent[:n])
			conn.CloseWrite()
			if got, err := io.ReadAll(conn); err != nil || string(got) != want {
				t.Errorf("cut after %d bytes: got %x, %v; want %x", n, got, err, want)
			}
			conn.Close()
			synctest.Test(t, func(t *testing.T) { checkSilence(t, tt.auth, tt.sent[:n], want) })
		}
	}
}

// checkSilence is a client, in a bubble, that sends no more than sent.
func checkSilence(t *testing.T, auth bool, sent, want string) {
	ln, dialed := wireServer(t, auth)
	conn := ln.dial()
	defer conn.Close()
	began := time.Now()
	go io.WriteString(conn, sent)
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != want {
		t.Errorf("silent after %d bytes: got %x, %v; want %x", len(sent), got, err, want)
	}
	if d := time.Since(began); d != DefaultNegotiationTimeout {
		t.Errorf("silent after %d bytes: closed after %v", len(sent), d)
	}
	if *dialed != "" {
		t.Errorf("dialed %q", *dialed)
	}
}

// TestDrip shows that the negotiation is bounded as a whole: a client that
// always sends the next byte in good time is cut off too.
func TestDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, dialed := wireServer(t, true)
		conn := ln.dial()
		defer conn.Close()
		began := time.Now()
		var drip sync.WaitGroup
		drip.Go(func() {
			for _, b := range []byte(greetingAuth + login + requestIPv4) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != methodLogin {
			t.Errorf("got %x, %v", got, err)
		}
		if d := time.Since(began); d != DefaultNegotiationTimeout || *dialed != "" {
			t.Errorf("closed after %v, dialed %q", d, *dialed)
		}
		drip.Wait()
	})
}

// TestLog checks what is logged about a connection, and that credentials are not.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer // written by one connection, read after it ended
		log := zerolog.New(&out)
		ln := newPipeListener()
		stop := serve(t, newServer(t, Config{
			Dial: dialFails(io.ErrNoProgress), Log: &log, Username: "alice", Password: "secret",
		}), ln)
		for _, password := range []string{"secret", "secreT"} {
			conn := ln.dial()
			go io.WriteString(conn, greetingAuth+"\x01\x05alice\x06"+password+requestName)
			io.ReadAll(conn)
			conn.Close()
			synctest.Wait()
		}
		stop()
		logged := out.String()
		for _, want := range []string{
			`"level":"debug"`, `"target":"example.com:80"`, io.ErrNoProgress.Error(),
			"authentication failed",
		} {
			if !strings.Contains(logged, want) {
				t.Errorf("log lacks %s: %s", want, logged)
			}
		}
		for _, never := range []string{"alice", "secre"} {
			if strings.Contains(logged, never) {
				t.Errorf("log has %s: %s", never, logged)
			}
		}
	})
}

func TestNewChecksConfig(t *testing.T) {
	dial := dialFails(io.EOF)
	for name, cfg := range map[string]Config{
		"no dialer":    {Relay: testRelay},
		"no relay":     {Dial: dial},
		"no password":  {Dial: dial, Relay: testRelay, Username: "alice"},
		"no user name": {Dial: dial, Relay: testRelay, Password: "secret"},
		"long password": {Dial: dial, Relay: testRelay, Username: "alice",
			Password: name255 + "x"},
		"negative limit":     {Dial: dial, Relay: testRelay, MaxConns: -1},
		"negative timeout":   {Dial: dial, Relay: testRelay, DialTimeout: -1},
		"negative timeout 2": {Dial: dial, Relay: testRelay, NegotiationTimeout: -1},
	} {
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error shows the password", name)
		}
	}
}
