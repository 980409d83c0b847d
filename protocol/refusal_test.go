package protocol

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// refusalOf returns the refusal in an error.
func refusalOf(tb testing.TB, err error) *RefusedError {
	tb.Helper()
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok {
		tb.Fatalf("got %v, want a refusal", err)
	}
	return refused
}

// TestRefusalIsAuthenticated refuses clients in step 5b, with and without the extension. Only with
// it does the client know that the server did, whether it reads or writes.
func TestRefusalIsAuthenticated(t *testing.T) {
	certificate := newParties(t, Version2, true)
	certificate.client.Cert = newAuthority(t, "another CA").issue(t, certificate.client.Key, nil,
		nil)
	key := newParties(t, Version1, false)
	key.server.Admit = nil
	for name, p := range map[string]parties{"certificate": certificate, "key": key} {
		for _, extended := range []bool{true, false} {
			for _, write := range []bool{false, true} {
				if extended {
					p.client.Extension, p.server.Extension = ExtensionAuto, ExtensionAuto
				} else {
					p.client.Extension, p.server.Extension = ExtensionOff, ExtensionOff
				}
				address, served := listenToFail(t, p.server)
				c, err := Client(t.Context(), dialWS(t, address), p.client)
				for write && err == nil {
					err = c.WriteRecords(make([]byte, 1000))
				}
				if err == nil {
					err = readUntilError(t, c)
				}
				refused := refusalOf(t, err)
				if refused.Authenticated != extended || refused.Reason != refused.Code.String() {
					t.Errorf("%s, extension %v, write %v: %#v", name, extended, write, refused)
				}
				wantHandshakeError(t, <-served, "5b", refused.Code)
			}
		}
	}
}

// closing is a server's connection with a man-in-the-middle that alters the close frame.
type closing struct {
	net.Conn
	alter func(frame []byte) []byte
}

func (c closing) Write(p []byte) (int, error) {
	if p[0] != 0x88 {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(c.alter(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TestForgedRefusal forges close frames with the server's codes: none is taken for the server's.
func TestForgedRefusal(t *testing.T) {
	var replayed []byte
	forge := func(code CloseCode, reason string) func([]byte) []byte {
		return func([]byte) []byte {
			message := websocket.FormatCloseMessage(int(code), reason)
			return append([]byte{0x88, byte(len(message))}, message...)
		}
	}
	proof := base64.RawURLEncoding.EncodeToString(make([]byte, refusalProofSize))
	for name, tt := range map[string]struct {
		alter         func(frame []byte) []byte
		authenticated bool
	}{
		"genuine": {func(frame []byte) []byte {
			replayed = bytes.Clone(frame)
			return frame
		}, true},
		"no proof":    {forge(CloseNotAdmitted, "not admitted"), false},
		"wrong proof": {forge(CloseNotAdmitted, "not admitted "+proof), false},
		"empty":       {forge(CloseNotAdmitted, ""), false},
		"longest":     {forge(CloseNotAdmitted, strings.Repeat("x", maxCloseReason)), false},
		"other code": {func(frame []byte) []byte {
			f := bytes.Clone(frame)
			f[3]++
			return f
		}, false},
		"of another try": {func([]byte) []byte { return replayed }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "of another try" {
				refuseOver(t, func(frame []byte) []byte {
					replayed = bytes.Clone(frame)
					return frame
				})
			}
			if refused := refuseOver(t, tt.alter); refused.Authenticated != tt.authenticated {
				t.Errorf("%#v", refused)
			}
		})
	}
}

// refuseOver refuses a client over a connection on which the close frame is altered, and returns
// the client's error.
func refuseOver(t *testing.T, alter func([]byte) []byte) *RefusedError {
	t.Helper()
	p := newParties(t, Version1, false)
	p.client.Extension, p.server.Extension = ExtensionAuto, ExtensionAuto
	p.server.Admit = nil
	c, s := net.Pipe()
	done := make(chan error, 1)
	go func() {
		ws, err := upgradeConn(closing{s, alter})
		if err == nil {
			_, err = Server(context.Background(), ws, p.server)
		}
		done <- err
	}()
	dialer := NewDialer(func(context.Context, string, string) (net.Conn, error) {
		return c, nil
	}, nil)
	ws, resp, err := dialer.DialContext(t.Context(), "ws://remote.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	conn, err := Client(t.Context(), ws, p.client)
	if err != nil {
		t.Fatal(err)
	}
	err = readUntilError(t, conn)
	if served := <-done; errors.Is(served, io.EOF) {
		t.Fatal(served)
	}
	return refusalOf(t, err)
}
