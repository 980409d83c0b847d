package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/certs"
)

// vector is a whole handshake from fixed randomness, as testdata/vectors.json holds it. The
// reference's own code makes the same bytes from the same randomness: see
// TestVectorsAgainstReference.
type vector struct {
	Name        string `json:"name"`
	Version     int    `json:"version"`
	RequireCert bool   `json:"requireCert"`

	ClientSecret hexBytes `json:"clientSecret"`
	ServerSecret hexBytes `json:"serverSecret"`
	// ClientRandom is ClientHello's nonce, then the nonce and the share key of ClientReady.
	ClientRandom hexBytes `json:"clientRandom"`
	// ServerRandom is the nonce and the share key of ServerHello.
	ServerRandom hexBytes `json:"serverRandom"`

	CA         json.RawMessage `json:"ca,omitempty"`
	ServerCert json.RawMessage `json:"serverCert,omitempty"`
	ClientCert json.RawMessage `json:"clientCert,omitempty"`

	ClientHello string         `json:"clientHello"`
	ServerHello string         `json:"serverHello"`
	ClientReady string         `json:"clientReady"`
	Records     []vectorRecord `json:"records"`
}

type vectorRecord struct {
	From    string   `json:"from"`
	Payload hexBytes `json:"payload"`
	Record  hexBytes `json:"record"`
}

type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

const vectorsFile = "testdata/vectors.json"

func readVectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile(filepath.FromSlash(vectorsFile))
	if err != nil {
		tb.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil {
		tb.Fatal(err)
	}
	if len(vectors) != len(variants) {
		tb.Fatalf("%d vectors, want %d", len(vectors), len(variants))
	}
	return vectors
}

// parties returns the configurations that make the vector's handshake.
func (v vector) parties(tb testing.TB) parties {
	tb.Helper()
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	p := parties{
		client: ClientConfig{
			Version: v.Version, Key: keyOf(tb, v.ClientSecret), VerifyServer: acceptAll,
			ServerName: "remote.example", rand: bytes.NewReader(v.ClientRandom), now: now,
			Extension: ExtensionOff,
		},
		server: ServerConfig{
			Key: keyOf(tb, v.ServerSecret), Admit: acceptAll, Replay: NewReplayCache(0),
			RequireCert: v.RequireCert,
			PeerAddr:    netip.MustParseAddr("192.0.2.2"), rand: bytes.NewReader(v.ServerRandom),
			now:       now,
			Extension: ExtensionOff,
		},
	}
	for _, c := range []struct {
		to   **certs.Certificate
		from json.RawMessage
	}{
		{&p.client.CA, v.CA}, {&p.server.CA, v.CA}, {&p.server.Cert, v.ServerCert},
		{&p.client.Cert, v.ClientCert},
	} {
		if c.from == nil {
			continue
		}
		cert, err := certs.ParseCertificate(c.from)
		if err != nil {
			tb.Fatal(err)
		}
		*c.to = cert
	}
	return p
}

func keyOf(tb testing.TB, secret []byte) *certs.KeyPair {
	tb.Helper()
	kp, err := certs.NewKeyPair([keySize]byte(secret))
	if err != nil {
		tb.Fatal(err)
	}
	return kp
}

// TestVectors repeats each handshake and its records, and compares every byte.
func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			e := newExchange(t, v.parties(t))
			for _, m := range []struct {
				name, want string
				got        []byte
			}{
				{"ClientHello", v.ClientHello, e.hello},
				{"ServerHello", v.ServerHello, e.reply},
				{"ClientReady", v.ClientReady, e.ready},
			} {
				if string(m.got) != m.want {
					t.Errorf("%s: got\n%s\nwant\n%s", m.name, m.got, m.want)
				}
			}
			server, err := e.server.step5VerifyClientReady(e.ready)
			if err != nil {
				t.Fatal(err)
			}
			client, err := e.client.step6SecureContext()
			if err != nil {
				t.Fatal(err)
			}
			compareRecords(t, v.Records, client, server)
		})
	}
}

func compareRecords(t *testing.T, records []vectorRecord, client, server outcome) {
	t.Helper()
	type direction struct {
		sealer sealer
		opener opener
	}
	directions := map[string]direction{
		"client": {client.sealer, server.opener},
		"server": {server.sealer, client.opener},
	}
	if len(records) < 4 {
		t.Fatalf("only %d records", len(records))
	}
	for i, r := range records {
		d := directions[r.From]
		sealed, err := d.sealer.seal(nil, r.Payload)
		if err != nil || !bytes.Equal(sealed, r.Record) {
			t.Errorf("record %d: got %x, %v, want %x", i, sealed, err, r.Record)
		}
		payload, err := d.opener.open(nil, r.Record)
		if err != nil || !bytes.Equal(payload, r.Payload) {
			t.Errorf("record %d: got payload %x, %v, want %x", i, payload, err, r.Payload)
		}
	}
}
