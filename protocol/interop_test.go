package protocol

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"culvert/certs"
)

// TestVectorsAgainstReference recomputes the vectors with the reference's own code.
func TestVectorsAgainstReference(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), interopTimeout)
	defer cancel()
	file, err := os.Open(filepath.FromSlash(vectorsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := nodeCommand(t, ctx, "sws-vectors.js")
	cmd.Stdin, cmd.Stderr = file, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var made []struct {
		ClientHello, ServerHello, ClientReady string
		CertsValid                            []bool
		Records                               []hexBytes
	}
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	vectors := readVectors(t)
	if len(made) != len(vectors) {
		t.Fatalf("the script made %d handshakes of %d", len(made), len(vectors))
	}
	for i, v := range vectors {
		m := made[i]
		if m.ClientHello != v.ClientHello || m.ServerHello != v.ServerHello ||
			m.ClientReady != v.ClientReady {
			t.Errorf("%s: the reference makes\n%s\n%s\n%s", v.Name, m.ClientHello, m.ServerHello,
				m.ClientReady)
		}
		if slices.Contains(m.CertsValid, false) ||
			(v.ServerCert != nil) != (len(m.CertsValid) > 0) {
			t.Errorf("%s: the reference finds the certificates valid: %v", v.Name, m.CertsValid)
		}
		if len(m.Records) != len(v.Records) {
			t.Fatalf("%s: %d records", v.Name, len(m.Records))
		}
		for j, r := range v.Records {
			if !bytes.Equal(m.Records[j], r.Record) {
				t.Errorf("%s: record %d: the reference makes %x, want %x", v.Name, j, m.Records[j],
					r.Record)
			}
		}
	}
}

// newInteropParties makes configurations that the reference accepts too: it requires the client's
// address in the certificate.
func newInteropParties(tb testing.TB, version int, requireCert bool) parties {
	tb.Helper()
	p := newExtendedParties(tb, version, requireCert)
	p.client.ServerName = "127.0.0.1"
	if version == Version2 {
		p.server.Cert = p.authority.issue(tb, p.server.Key, []string{"remote.example"},
			[]string{"127.0.0.1"})
	}
	if requireCert {
		p.client.Cert = p.authority.issue(tb, p.client.Key, []string{"client"},
			[]string{"127.0.0.1"})
	}
	return p
}

// interopMessages is how many messages go each way.
const interopMessages = 1000

// interopSizes are lengths of every magnitude from 1 byte to 1 MiB, inclusive, in a mixed order:
// one in ten is over 64 KiB, half are under 32 bytes, and all together are some 40 MB, which the
// reference seals in a few seconds.
func interopSizes() []int {
	sizes := make([]int, interopMessages)
	for i := range sizes {
		u := float64(i) / (interopMessages - 1)
		sizes[i] = int(math.Round(math.Exp2(20 * u * u)))
	}
	mathrand.New(mathrand.NewPCG(1, 2)).Shuffle(len(sizes), func(i, j int) {
		sizes[i], sizes[j] = sizes[j], sizes[i]
	})
	return sizes
}

// addTo adds a message to a digest over all messages and their lengths, as sws-peer.js does.
func addTo(h hash.Hash, message []byte) {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(message)))
	h.Write(length[:])
	h.Write(message)
}

// sendAll writes a message of each size and returns the digest.
func sendAll(c *Conn, sizes []int) (string, error) {
	h := sha256.New()
	message := make([]byte, slices.Max(sizes))
	for _, n := range sizes {
		if _, err := rand.Read(message[:n]); err != nil {
			return "", err
		}
		addTo(h, message[:n])
		if err := c.WriteRecords(message[:n]); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// exchangeAll sends and receives everything at once. A server's first message waits for the
// client's.
func exchangeAll(c *Conn, sizes []int, isServer bool) (sent, received string, err error) {
	if err := c.SetReadDeadline(time.Now().Add(interopTimeout)); err != nil {
		return "", "", err
	}
	if err := c.SetWriteDeadline(time.Now().Add(interopTimeout)); err != nil {
		return "", "", err
	}
	type outcome struct {
		digest string
		err    error
	}
	done := make(chan outcome, 1)
	send := func() {
		digest, err := sendAll(c, sizes)
		done <- outcome{digest, err}
	}
	if !isServer {
		go send()
	}
	h := sha256.New()
	for i := range interopMessages {
		message, err := c.ReadRecord(nil)
		if err != nil {
			return "", "", fmt.Errorf("message %d: %w", i, err)
		}
		addTo(h, message)
		if isServer && i == 0 {
			go send()
		}
	}
	o := <-done
	return o.digest, hex.EncodeToString(h.Sum(nil)), o.err
}

func compareDigests(t *testing.T, sent, received string, e referenceEvent) {
	t.Helper()
	if sent != e.Received {
		t.Error("what was sent is not what the reference received")
	}
	if received != e.Sent {
		t.Error("what was received is not what the reference sent")
	}
}

// TestInteropServerOfReference connects our client to the reference's server.
func TestInteropServerOfReference(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newInteropParties(t, v.version, v.requireCert)
			sizes := interopSizes()
			ref, url := referenceServer(t, p, v.version,
				referenceConfig{Sizes: sizes, Expect: len(sizes)})
			c, err := Client(t.Context(), dialWS(t, url), p.client)
			if err != nil {
				t.Fatal(err)
			}
			wantPeer := ""
			if v.requireCert {
				wantPeer = p.client.Cert.GID()
			}
			if got := ref.await("open").Peer; got != wantPeer {
				t.Errorf("the reference sees the certificate %q, want %q", got, wantPeer)
			}
			sent, received, err := exchangeAll(c, sizes, false)
			if err != nil {
				t.Fatal(err)
			}
			compareDigests(t, sent, received, ref.await("done"))
			c.Close()
			if e := ref.await("close"); e.Code != websocket.CloseNormalClosure {
				t.Errorf("the reference sees code %d", e.Code)
			}
		})
	}
}

// TestInteropClientOfReference connects the reference's client, which does not mask its frames, to
// our server.
func TestInteropClientOfReference(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newInteropParties(t, v.version, v.requireCert)
			sizes := interopSizes()
			type exchanged struct {
				sent, received string
				state          State
				err            error
			}
			done := make(chan exchanged, 1)
			url := listen(t, func(ws *websocket.Conn) {
				c, err := Server(context.Background(), ws, p.server)
				if err != nil {
					done <- exchanged{err: err}
					return
				}
				sent, received, err := exchangeAll(c, sizes, true)
				done <- exchanged{sent, received, c.State(), err}
				_ = readUntilError(t, c)
			})
			ref := referenceClient(t, p, url, referenceConfig{Sizes: sizes, Expect: len(sizes)})
			ref.await("open")
			e := <-done
			if e.err != nil {
				t.Fatal(e.err)
			}
			compareDigests(t, e.sent, e.received, ref.await("done"))
			if e.state.Version != v.version || e.state.Peer.Key != p.client.Key.Public() ||
				v.requireCert != (e.state.Peer.Cert != nil) {
				t.Errorf("the server's state is %+v", e.state)
			}
		})
	}
}

// TestInteropWeRefuseServer connects our client to reference servers that it must refuse.
func TestInteropWeRefuseServer(t *testing.T) {
	tests := []struct {
		name   string
		change func(*parties)
		code   CloseCode
		reason certs.Reason
		want   error
	}{
		{"wrong CA", func(p *parties) {
			p.client.CA = newAuthority(t, "Other CA").ca.Certificate()
		},
			CloseIdentity, certs.ReasonWrongCA, nil},
		{"wrong host and address", func(p *parties) {
			p.server.Cert = p.authority.issue(t, p.server.Key, []string{"a.example"},
				[]string{"192.0.2.1"})
		}, CloseIdentity, certs.ReasonWrongAddress, nil},
		{"wrong host", func(p *parties) {
			p.client.ServerName = "b.example"
			p.server.Cert = p.authority.issue(t, p.server.Key, []string{"a.example"},
				[]string{"127.0.0.1"})
		}, CloseIdentity, certs.ReasonWrongHost, nil},
		{"a client's certificate", func(p *parties) {
			p.server.Cert = p.authority.issueFor(t, p.server.Key, certs.UseClient)
		}, CloseIdentity, certs.ReasonWrongUse, nil},
		{"certificate for another key", func(p *parties) {
			p.server.Cert = p.authority.issue(t, newKey(t, "other"), nil, []string{"127.0.0.1"})
		}, CloseIdentity, certs.ReasonWrongKey, nil},
		{"pinned to another key", func(p *parties) {
			p.client.VerifyServer = func(Peer) error { return errWrongPin }
		}, CloseIdentity, 0, errWrongPin},
		{"no client certificate", func(p *parties) {
			p.server.CA, p.server.RequireCert = p.authority.ca.Certificate(), true
		}, CloseCertificate, 0, ErrCertificateRequired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newInteropParties(t, Version2, false)
			tt.change(&p)
			ref, url := referenceServer(t, p, Version2, referenceConfig{})
			_, err := Client(t.Context(), dialWS(t, url), p.client)
			wantHandshakeError(t, err, "4b", tt.code)
			wantReason(t, err, tt.reason)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if e := ref.await("close"); e.Code != int(tt.code) || e.Reason != tt.code.String() {
				t.Errorf("the reference sees code %d, reason %q", e.Code, e.Reason)
			}
		})
	}
}

var errWrongPin = errors.New("another key is pinned")

// TestInteropServerIgnoresVersion connects a client of one version to a reference server of the
// other. The server does not answer, so the client times out.
func TestInteropServerIgnoresVersion(t *testing.T) {
	for _, version := range []int{Version1, Version2} {
		p := newInteropParties(t, Version2, false)
		p.client.Version, p.client.Timeout = version, 500*time.Millisecond
		ref, url := referenceServer(t, p, 3-version, referenceConfig{})
		_, err := Client(t.Context(), dialWS(t, url), p.client)
		wantHandshakeError(t, err, "4", CloseTimeout)
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("version %d: got %v, want ErrTimeout", version, err)
		}
		if e := ref.await("close"); e.Code != int(CloseTimeout) {
			t.Errorf("version %d: the reference sees code %d", version, e.Code)
		}
	}
}

// TestInteropServerRefusesUs connects to a reference server that closes after our ClientReady,
// which our client learns from its first read.
func TestInteropServerRefusesUs(t *testing.T) {
	p := newInteropParties(t, Version2, true)
	other := newAuthority(t, "Other CA")
	p.client.Cert = other.issue(t, p.client.Key, nil, []string{"127.0.0.1"})
	_, url := referenceServer(t, p, Version2, referenceConfig{})
	c, err := Client(t.Context(), dialWS(t, url), p.client)
	if err != nil {
		t.Fatal(err)
	}
	var closed *PeerClosedError
	if err := readUntilError(t, c); !errors.As(err, &closed) ||
		closed.Code != websocket.CloseNormalClosure {
		t.Fatalf("got %v, want a PeerClosedError", err)
	}
}

// TestInteropWeRefuseClient connects reference clients that our server must not admit. Each gets a
// close frame with the reason.
func TestInteropWeRefuseClient(t *testing.T) {
	tests := []struct {
		name    string
		require bool
		change  func(*parties)
		step    string
		code    CloseCode
	}{
		{"version 1, key not admitted", false, func(p *parties) {
			p.client.Version = Version1
			p.server.Admit = func(Peer) error { return errors.New("not in the list") }
		}, "5b", CloseNotAdmitted},
		{"version 2, key not admitted", true, func(p *parties) {
			p.server.Admit = func(Peer) error { return errors.New("not in the list") }
		}, "5b", CloseNotAdmitted},
		{"certificate of another CA", true, func(p *parties) {
			p.client.Cert = newAuthority(t, "Other CA").issue(t, p.client.Key, nil, nil)
		}, "5b", CloseCertificate},
		{"certificate for another address", true, func(p *parties) {
			p.client.Cert = p.authority.issue(t, p.client.Key, nil, []string{"192.0.2.1"})
		}, "5b", CloseCertificate},
		{"version 1 where a certificate is required", true, func(p *parties) {
			p.client.Version = Version1
		},
			"3", CloseVersion},
		{"version 2 without a certificate to show", false, func(p *parties) { p.server.Cert = nil },
			"3", CloseVersion},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newInteropParties(t, Version2, tt.require)
			tt.change(&p)
			url, served := listenToFail(t, p.server)
			ref := referenceClient(t, p, url, referenceConfig{})
			if e := ref.await("close"); e.Code != int(tt.code) || e.Reason != tt.code.String() {
				t.Errorf("the reference sees code %d, reason %q", e.Code, e.Reason)
			}
			wantHandshakeError(t, <-served, tt.step, tt.code)
		})
	}
}

// TestInteropClientWithoutCertificate connects a reference client that gives up, as it lacks a
// certificate.
func TestInteropClientWithoutCertificate(t *testing.T) {
	p := newInteropParties(t, Version2, true)
	p.client.Cert = nil
	url, served := listenToFail(t, p.server)
	ref := referenceClient(t, p, url, referenceConfig{})
	if e := ref.await("error"); e.Text != "Miss client cert" {
		t.Errorf("the reference's error is %q", e.Text)
	}
	err := <-served
	wantHandshakeError(t, err, "5", 0)
	var closed *PeerClosedError
	if !errors.As(err, &closed) {
		t.Errorf("got %v, want a PeerClosedError", err)
	}
}
