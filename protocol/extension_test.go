package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// newExtendedParties is newParties with the extension on.
func newExtendedParties(tb testing.TB, version int, requireCert bool) parties {
	tb.Helper()
	p := newParties(tb, version, requireCert)
	p.client.Extension, p.server.Extension = ExtensionAuto, ExtensionAuto
	return p
}

func TestExtensionIsUsed(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newExtendedParties(t, v.version, v.requireCert)
			p.client.Extension, p.server.Extension = ExtensionRequired, ExtensionRequired
			client, server := connectTCP(t, p)
			for _, c := range []*Conn{client, server} {
				if s := c.State(); s.Suite != preferredSuites()[0] || !s.ForwardSecrecy ||
					s.Version != v.version {
					t.Errorf("state %+v", s)
				}
			}
			a, errA := client.Export("test", []byte("context"), 32)
			b, errB := server.Export("test", []byte("context"), 32)
			if errA != nil || errB != nil || !bytes.Equal(a, b) || len(a) != 32 {
				t.Errorf("exports %x and %x, %v, %v", a, b, errA, errB)
			}
			for _, other := range []struct{ label, context string }{
				{"test", "other"}, {"other", "context"},
			} {
				if c, err := client.Export(other.label, []byte(other.context), 32); err != nil ||
					bytes.Equal(a, c) {
					t.Errorf("export for %v: %x, %v", other, c, err)
				}
			}
		})
	}
}

// TestExtensionWithout: a peer without the extension gets the secure context of the specification,
// and a configuration that requires the extension refuses it.
func TestExtensionWithout(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			for _, without := range []string{"client", "server"} {
				p := newExtendedParties(t, v.version, v.requireCert)
				if without == "client" {
					p.client.Extension = ExtensionOff
				} else {
					p.server.Extension = ExtensionOff
				}
				client, server := connectTCP(t, p)
				for _, c := range []*Conn{client, server} {
					if s := c.State(); s.Suite != suiteSecretbox || s.ForwardSecrecy {
						t.Errorf("%s without: state %+v", without, s)
					}
					if _, err := c.Export("test", nil, 32); !errors.Is(err, ErrNoExporter) {
						t.Errorf("%s without: export: %v", without, err)
					}
				}
			}
		})
		t.Run(v.name+"/required by the client", func(t *testing.T) {
			p := newExtendedParties(t, v.version, v.requireCert)
			p.client.Extension, p.server.Extension = ExtensionRequired, ExtensionOff
			c, s := shakeTCP(t, p)
			wantHandshakeError(t, c.err, "4b", CloseNoSecrecy)
			if !errors.Is(c.err, ErrNoForwardSecrecy) {
				t.Errorf("client: %v", c.err)
			}
			wantRefused(t, s.err, CloseNoSecrecy)
		})
		t.Run(v.name+"/required by the server", func(t *testing.T) {
			p := newExtendedParties(t, v.version, v.requireCert)
			p.client.Extension, p.server.Extension = ExtensionOff, ExtensionRequired
			c, s := shakeTCP(t, p)
			wantHandshakeError(t, s.err, "5b", CloseNoSecrecy)
			if c.err == nil {
				c.err = readUntilError(t, c.conn)
			}
			wantRefused(t, c.err, CloseNoSecrecy)
		})
	}
}

// TestExtensionUnseen: to a client without an offer the server's sealed part is, byte for byte, the
// specification's.
func TestExtensionUnseen(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newExtendedParties(t, v.version, v.requireCert)
			p.client.Extension = ExtensionOff
			e := newExchange(t, p)
			if bytes.Contains(e.hello, []byte("ext")) {
				t.Error("the offer that is turned off is made")
			}
			wantServer, wantClient := "", ""
			if v.version == Version2 {
				wantServer = fmt.Sprintf(`{"cert":%s,"requireCert":%v}`, p.server.Cert.JSON(),
					v.requireCert)
				wantClient = "{}"
			}
			if v.requireCert {
				wantClient = string(p.client.Cert.JSON())
			}
			m, err := parseServerHello(e.reply, v.version)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := e.server.shared.open(m.box, e.client.helloNonce)
			if err != nil || string(opened[secretsSize:]) != wantServer {
				t.Errorf("ServerHello's box ends with %q, %v", opened[secretsSize:], err)
			}
			r, err := parseClientReady(e.ready, v.version)
			if err != nil {
				t.Fatal(err)
			}
			opened, err = e.server.shared.open(r.box, e.server.own.nonce)
			if err != nil || string(opened[secretsSize:]) != wantClient {
				t.Errorf("ClientReady's box ends with %q, %v", opened[secretsSize:], err)
			}
		})
	}
}

func TestExtensionChoice(t *testing.T) {
	for _, tt := range []struct {
		offer []string
		want  string
	}{
		{[]string{suiteAESGCM, suiteChaCha20}, preferredSuites()[0]},
		{[]string{suiteChaCha20, suiteAESGCM}, suiteChaCha20},
		{[]string{suiteAESGCM}, suiteAESGCM},
		{[]string{suiteChaCha20}, suiteChaCha20},
		{[]string{"of the future", suiteAESGCM}, suiteAESGCM},
		{[]string{"of the future"}, ""},
	} {
		if got := (&offer{suites: tt.offer}).choose(); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.offer, got, tt.want)
		}
	}
}

// relayHandshake puts a man-in-the-middle between two ends: alter gets each handshake message,
// numbered from 0, and returns what to forward. Close codes are forwarded too.
func relayHandshake(
	tb testing.TB, p parties, alter func(number int, message []byte) []byte,
) (client, server result) {
	tb.Helper()
	serverDone := make(chan result, 1)
	address := listen(tb, func(ws *websocket.Conn) {
		c, err := Server(context.Background(), ws, p.server)
		if err == nil {
			_, err = c.ReadRecord(nil)
		}
		serverDone <- result{c, err}
	})
	between := listen(tb, func(down *websocket.Conn) {
		up := dialWS(tb, address)
		pass := func(from, to *websocket.Conn, number int) bool {
			kind, message, err := from.ReadMessage()
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				to.WriteMessage(websocket.CloseMessage,
					websocket.FormatCloseMessage(closed.Code, closed.Text))
			}
			if err != nil {
				return false
			}
			return to.WriteMessage(kind, alter(number, message)) == nil
		}
		if !pass(down, up, 0) || !pass(up, down, 1) || !pass(down, up, 2) {
			return
		}
		pass(up, down, 3) // a refusal, if any
	})
	client.conn, client.err = Client(context.Background(), dialWS(tb, between), p.client)
	if client.err == nil {
		client.err = readUntilError(tb, client.conn)
	}
	return client, <-serverDone
}

// alterations are what a man-in-the-middle can do to the ClientHello's offer.
func alterations(tb testing.TB) map[string]func(hello []byte) []byte {
	tb.Helper()
	kem, _, _ := kemSuite()
	own, err := kem.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	type message = map[string]json.RawMessage
	edit := func(change func(m message, ext map[string]any)) func([]byte) []byte {
		return func(hello []byte) []byte {
			var m map[string]json.RawMessage
			var ext map[string]any
			if json.Unmarshal(hello, &m) != nil || json.Unmarshal(m["ext"], &ext) != nil {
				tb.Error("no offer to alter")
			}
			change(m, ext)
			if m["ext"] != nil {
				m["ext"], _ = json.Marshal(ext)
			}
			b, _ := json.Marshal(m)
			return b
		}
	}
	return map[string]func([]byte) []byte{
		"offer removed": edit(func(m message, _ map[string]any) {
			delete(m, "ext")
		}),
		"suite removed": edit(func(_ message, ext map[string]any) {
			ext["suites"] = []string{suiteChaCha20}
		}),
		"suites reordered": edit(func(_ message, ext map[string]any) {
			slices.Reverse(ext["suites"].([]any))
		}),
		"suite added": edit(func(_ message, ext map[string]any) {
			ext["suites"] = append(ext["suites"].([]any), "x")
		}),
		"unknown suites": edit(func(_ message, ext map[string]any) {
			ext["suites"] = []string{"x"}
		}),
		"own key": edit(func(_ message, ext map[string]any) {
			ext["kem"] = string(encode85(own.PublicKey().Bytes()))
		}),
		"member added": edit(func(_ message, ext map[string]any) {
			ext["x"] = 1
		}),
		"re-encoded": edit(func(message, map[string]any) {}),
		"one character": func(hello []byte) []byte {
			return bytes.Replace(hello, []byte(`"kem":`), []byte(`"kem" :`), 1)
		},
	}
}

// TestDowngradeIsRefused alters the offer in transit, in every kind of handshake: both ends refuse.
func TestDowngradeIsRefused(t *testing.T) {
	for _, v := range variants {
		for name, alter := range alterations(t) {
			t.Run(v.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				client, server := relayHandshake(t, newExtendedParties(t, v.version, v.requireCert),
					func(n int, m []byte) []byte {
						if n == 0 {
							return alter(m)
						}
						return m
					})
				switch name {
				case "offer removed", "unknown suites":
					// To the client the server lacks the extension; its sealed confirmation reveals
					// the removal.
					wantHandshakeError(t, server.err, "5b", CloseDowngrade)
					if !errors.Is(server.err, ErrDowngrade) {
						t.Errorf("server: %v", server.err)
					}
					wantRefused(t, client.err, CloseDowngrade)
				default:
					wantHandshakeError(t, client.err, "4b", CloseDowngrade)
					if !errors.Is(client.err, ErrDowngrade) {
						t.Errorf("client: %v", client.err)
					}
					wantRefused(t, server.err, CloseDowngrade)
				}
			})
		}
	}
}

// TestAlteredAnswerIsRefused alters the sealed messages in transit: each byte of the boxes matters.
func TestAlteredAnswerIsRefused(t *testing.T) {
	alterBox := func(message []byte, at func(n int) int) []byte {
		var m map[string]any
		d := json.NewDecoder(bytes.NewReader(message))
		d.UseNumber()
		if err := d.Decode(&m); err != nil {
			t.Error(err)
		}
		box := m["s_blackbox_a"].([]any)
		i := at(len(box))
		n, _ := box[i].(json.Number).Int64()
		box[i] = n ^ 1
		b, _ := json.Marshal(m)
		return b
	}
	for _, v := range variants {
		for _, at := range []struct {
			name  string
			index func(n int) int
		}{
			{"tag", func(int) int { return 0 }},
			{"share key", func(int) int { return boxOverhead + nonceSize }},
			{"answer", func(n int) int { return n - 10 }},
			{"last", func(n int) int { return n - 1 }},
		} {
			t.Run(v.name+"/ServerHello "+at.name, func(t *testing.T) {
				t.Parallel()
				client, server := relayHandshake(t, newExtendedParties(t, v.version, v.requireCert),
					func(n int, m []byte) []byte {
						if n == 1 {
							return alterBox(m, at.index)
						}
						return m
					})
				wantHandshakeError(t, client.err, "4b", CloseNotOpened)
				wantRefused(t, server.err, CloseNotOpened)
			})
			t.Run(v.name+"/ClientReady "+at.name, func(t *testing.T) {
				t.Parallel()
				client, server := relayHandshake(t, newExtendedParties(t, v.version, v.requireCert),
					func(n int, m []byte) []byte {
						if n == 2 {
							return alterBox(m, at.index)
						}
						return m
					})
				wantHandshakeError(t, server.err, "5b", CloseNotOpened)
				wantRefused(t, client.err, CloseNotOpened)
			})
		}
		t.Run(v.name+"/ServerHello re-encoded", func(t *testing.T) {
			// Nothing sealed is altered, so the handshake succeeds; but the ends saw different
			// messages, so their keys differ, and the first record ends the connection.
			p := newExtendedParties(t, v.version, v.requireCert)
			e := newHalfExchange(t, p)
			altered := append([]byte(" "), e.reply...)
			ready, err := e.client.step4VerifyServerHello(altered)
			if err != nil {
				t.Fatal(err)
			}
			atServer, err := e.server.step5VerifyClientReady(ready)
			if err != nil {
				t.Fatal(err)
			}
			atClient, err := e.client.step6SecureContext()
			if err != nil {
				t.Fatal(err)
			}
			wantStrangers(t, atClient, atServer)
		})
	}
}

// wantStrangers checks that neither end opens the other's first record.
func wantStrangers(t *testing.T, a, b outcome) {
	t.Helper()
	for _, way := range []struct {
		from sealer
		to   opener
	}{{a.sealer, b.opener}, {b.sealer, a.opener}} {
		record, err := way.from.seal(nil, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := way.to.open(nil, record); !errors.Is(err, ErrNotOpened) {
			t.Errorf("a record of strangers: %v", err)
		}
	}
}

// TestMalformedOffers: a malformed offer is an error, not a handshake without an offer.
func TestMalformedOffers(t *testing.T) {
	good := string((&offer{suites: []string{suiteAESGCM},
		kemKey: make([]byte, kemKeySize)}).append(nil))
	if _, err := parseOffer(json.RawMessage(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`1`, `[]`, `"x"`, `null`, `{}`, `{"suites":[],"kem":""}`, `{"suites":["aes-256-gcm"]}`,
		strings.Replace(good, `["aes-256-gcm"]`, `"aes-256-gcm"`, 1),
		strings.Replace(good, `["aes-256-gcm"]`,
			`[`+strings.Repeat(`"x",`, maxOfferedSuites)+`"x"]`, 1),
		strings.Replace(good, `aes-256-gcm`, strings.Repeat("x", maxSuiteName+1), 1),
		strings.Replace(good, `"kem":"`, `"kem":"!`, 1),
		strings.Replace(good, `"kem":"z`, `"kem":"`, 1),
		strings.Replace(good, `"kem":"z`, `"kem":" z`, 1),
		strings.Replace(good, `"kem":"z`, `"kem":"\"`, 1),
		strings.Replace(good, `"kem":`, `"kem":"","kem":`, 1),
	} {
		if o, err := parseOffer(json.RawMessage(bad)); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%.60s: %v, %v", bad, o, err)
		}
	}
}

func TestText85(t *testing.T) {
	for n := 0; n <= 64; n += 4 {
		for _, fill := range []byte{0, 1, 0x21, 0x7f, 0xff} {
			data := bytes.Repeat([]byte{fill}, n)
			text := encode85(data)
			if bytes.ContainsAny(text, "\"\\ \n") {
				t.Fatalf("%q needs escaping", text)
			}
			raw, _ := json.Marshal(string(text))
			got, err := object{"x": raw}.text85("x", n)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes of %x: %x, %v", n, fill, got, err)
			}
		}
	}
	got := string(encode85([]byte("\"\\quotes and slashes")))
	if got != "+`K@0BQS?8F#ks-DfTJjF(ob+" && len(got) != 25 {
		t.Errorf("%q", got)
	}
}
