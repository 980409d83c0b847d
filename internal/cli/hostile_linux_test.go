package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/certs"
	"culvert/internal/testnet"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// evil is what a hostile peer sends wherever it can send text: terminal control sequences of both
// kinds, a line that looks like ours, and characters that reverse what follows.
const evil = "\x1b]0;pwned\x07\x1b[2J\u009b31m\u202eculvert\u2066: \u2028the tunnel works\x7f"

// printsPlainly runs culvert with a home of its own until it ends, and checks that it prints
// something, and nothing but printable lines.
func printsPlainly(t *testing.T, what, home string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "culvert", args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s: culvert %q: %v", what, args, err)
	}
	isPlainOutput(t, what, string(output))
	return string(output)
}

func isPlainOutput(t *testing.T, what, output string) {
	t.Helper()
	if strings.TrimSpace(output) == "" {
		t.Errorf("%s: no output", what)
	}
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		if strings.ContainsFunc(line, func(r rune) bool { return !strconv.IsPrint(r) }) {
			t.Errorf("%s: printed %q", what, line)
		}
	}
}

const somebody = "AYdV9KFSUZjppL8krv9qKiUwVRZ9NiYmYbTznONuLz0"

// What an HTTP server, or anybody on the way, answers instead of an upgrade.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for what, response := range map[string]string{
		"header line":       "HTTP/1.1 101 Switching Protocols\r\n" + evil + "\r\n\r\n",
		"status line":       "HTTP/1.1 101" + evil + "\r\n\r\n",
		"reason":            "HTTP/1.1 404 " + evil + "\r\n\r\n",
		"no HTTP":           evil + "\r\n\r\n",
		"version":           "HTTP/" + evil + " 200 OK\r\n\r\n",
		"Transfer-Encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + evil + "\r\n\r\n",
		"Content-Length":    "HTTP/1.1 200 OK\r\nContent-Length: " + evil + "\r\n\r\n",
		"name of a header":  "HTTP/1.1 200 OK\r\n" + evil + ": x\r\n\r\n",
		"Location":          "HTTP/1.1 302 Found\r\nLocation: http://a/" + evil + "\r\n\r\n",
		"Retry-After":       "HTTP/1.1 503 Busy\r\nRetry-After: " + evil + "\r\n\r\n",
		"body":              "HTTP/1.1 404 No\r\n\r\n" + evil,
	} {
		address := testnet.ServeTCP(t, func(conn *net.TCPConn) {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, response)
			conn.Close()
		})
		printsPlainly(t, what, home, "check", "--remote-key", somebody, "ws://"+address+"/")
		printsPlainly(t, what+" of a proxy", home, "check", "--remote-key", somebody,
			"--via", "http://"+address, "ws://192.0.2.1/")
	}
}

// The names in a certificate of TLS.
func TestHostileTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Map(func(r rune) rune { // names are ASCII
		if r > 0x7f {
			return -1
		}
		return r
	}, evil)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		Subject: pkix.Name{CommonName: evil, Organization: []string{evil}},
		Issuer:  pkix.Name{CommonName: evil}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der},
		PrivateKey: key}}}
	server.StartTLS()
	defer server.Close()
	home := t.TempDir()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} {
		printsPlainly(t, host, home, "check", "--remote-key", somebody, "wss://"+host+":"+port+"/")
	}
}

// serveHostile serves WebSockets, each with serve, and returns a URL.
func serveHostile(t *testing.T, serve func(http.ResponseWriter, *http.Request)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(serve))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/"
}

// The reasons in close frames, which nothing authenticates.
func TestHostileCloseReason(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, code := range []uint16{1000, 1008, 1011, 4401, 4403, 4404, 4407, 4450, 4999} {
		url := serveHostile(t, func(w http.ResponseWriter, r *http.Request) {
			ws, err := protocol.Upgrade(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			defer ws.Close()
			ws.ReadMessage()
			const closeFrame = 8 // RFC 6455, section 5.2
			frame := append(binary.BigEndian.AppendUint16(nil, code), evil...)
			ws.WriteControl(closeFrame, frame, time.Now().Add(time.Minute))
		})
		printsPlainly(t, strconv.Itoa(int(code)), home, "check", "--remote-key", somebody, url)
	}
}

// What a remote says in a session: why it refuses a stream, where it listens, why it ends.
func TestHostileRemote(t *testing.T) {
	t.Parallel()
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	serve := func(answer func(*mux.Session, mux.Incoming)) string {
		return serveHostile(t, func(w http.ResponseWriter, r *http.Request) {
			ws, err := protocol.Upgrade(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			conn, err := protocol.Server(t.Context(), ws, protocol.ServerConfig{
				Key: key, Replay: protocol.NewReplayCache(0), MaxMessage: mux.MaxRecordSize,
				Admit: func(protocol.Peer) error { return nil },
			})
			if err != nil {
				return
			}
			session, err := mux.NewServer(t.Context(), conn, mux.Config{})
			if err != nil {
				return
			}
			defer session.Close()
			for {
				in, err := session.Accept(t.Context())
				if err != nil {
					return
				}
				answer(session, in)
			}
		})
	}
	pin := key.Public().String()
	refusing := serve(func(_ *mux.Session, in mux.Incoming) {
		in.Refuse(mux.CodeDialFailed, evil)
	})
	printsPlainly(t, "refusal", home, "local", "--remote-key", pin, "-W", "a.example:1", refusing)
	printsPlainly(t, "refusal of -R", home, "local", "--socks", "none", "--remote-key", pin,
		"-R", "0:localhost:1", refusing)
	ending := serve(func(session *mux.Session, _ mux.Incoming) {
		session.CloseWith(mux.CodeNotAllowed, evil)
	})
	printsPlainly(t, "end of a session", home, "local", "--remote-key", pin, "-W", "a.example:1",
		"--log-level", "debug", ending)
	listening := serve(func(_ *mux.Session, in mux.Incoming) {
		stream, err := in.(*mux.IncomingStream).Confirm()
		if err == nil {
			io.WriteString(stream, evil+"\n")
			stream.Read(make([]byte, 1))
		}
	})
	output := printsPlainly(t, "bound address", home, "local", "--socks", "none", "--remote-key",
		pin, "-R", "0:localhost:1", "--print-ready", listening)
	if strings.Contains(output, "ready") {
		t.Errorf("a malformed address was taken: %s", output)
	}
}

// A certificate's texts, also in errors.
func TestHostileCertificate(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	now := time.Now()
	ca, err := certs.NewCA(rand.Reader, evil, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(rand.Reader, now, certs.Request{PublicKey: certs.PublicKey{9},
		Names: []string{evil}, MACs: []string{evil}, Expires: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	json := string(cert.JSON())
	quoted := `"\u001b[2J\u202e"`
	for what, text := range map[string]string{
		"names": json,
		"type":  strings.Replace(json, `"type":"ca"`, `"type":`+quoted, 1),
		"use":   strings.Replace(json, `"type":"ca"`, `"type":"ca","use":`+quoted, 1),
		"gid":   strings.Replace(json, `"gid":"`, `"gid":"\u001b[2J\u202e`, 1),
		"key":   strings.Replace(json, `"names"`, quoted, 1),
		"bad":   evil,
	} {
		path := filepath.Join(home, what)
		caPath := filepath.Join(home, what+".ca")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(caPath, ca.Certificate().JSON(), 0o600); err != nil {
			t.Fatal(err)
		}
		printsPlainly(t, what, home, "cert", "show", path)
		printsPlainly(t, what+", verified", home, "cert", "verify", "--ca", caPath, path)
		printsPlainly(t, what+", as a CA", home, "check", "--ca", path, "ws://127.0.0.1:9/")
	}
}
