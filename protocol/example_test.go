package protocol_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"culvert/certs"
	"culvert/protocol"
)

// Version 1 of the handshake: the client pins the server's key, and the server lists its clients'
// keys. The peers may be of any program that implements the specification.
func Example() {
	serverKey, clientKey := newKey(), newKey()

	// The server side: upgrade the HTTP request, then perform the handshake.
	cfg := protocol.ServerConfig{
		Key:    serverKey,
		Replay: protocol.NewReplayCache(0), // one for all connections
		Admit: func(peer protocol.Peer) error {
			if !peer.Key.Equal(clientKey.Public()) {
				return errors.New("unknown key")
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := protocol.Upgrade(w, r)
		if err != nil {
			return // Upgrade has responded
		}
		conn, err := protocol.Server(r.Context(), ws, cfg)
		if err != nil {
			return // Server has closed the connection
		}
		echo(conn)
	}))
	defer server.Close()

	// The client side: dial, then perform the handshake.
	conn, err := dial(server.URL, protocol.ClientConfig{
		Version: protocol.Version1,
		Key:     clientKey,
		VerifyServer: func(peer protocol.Peer) error {
			if !peer.Key.Equal(serverKey.Public()) {
				return errors.New("not the pinned key")
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteRecords([]byte("Hello")); err != nil {
		log.Fatal(err)
	}
	answer, err := conn.ReadRecord(nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, forward secrecy: %v\n", answer, conn.State().ForwardSecrecy)
	// Output: Hello, forward secrecy: true
}

// Version 2 of the handshake: a CA vouches for both ends. ExtensionOff limits the connection to the
// specification; the default is to use the extension if the peer has it.
func Example_version2() {
	now := time.Now()
	expires := now.Add(24 * time.Hour)
	ca, err := certs.NewCA(rand.Reader, "Example CA", now, expires)
	if err != nil {
		log.Fatal(err)
	}
	issue := func(key *certs.KeyPair, names ...string) *certs.Certificate {
		cert, err := ca.Issue(rand.Reader, now, certs.Request{
			PublicKey: key.Public(), Names: names, Expires: expires,
		})
		if err != nil {
			log.Fatal(err)
		}
		return cert
	}
	serverKey, clientKey := newKey(), newKey()

	cfg := protocol.ServerConfig{
		Key:         serverKey,
		Cert:        issue(serverKey, "server.example"),
		CA:          ca.Certificate(),
		RequireCert: true,
		Replay:      protocol.NewReplayCache(0),
		Admit:       func(protocol.Peer) error { return nil }, // the certificate is enough
		Extension:   protocol.ExtensionOff,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := protocol.Upgrade(w, r)
		if err != nil {
			return
		}
		if conn, err := protocol.Server(r.Context(), ws, cfg); err == nil {
			echo(conn)
		}
	}))
	defer server.Close()

	client := protocol.ClientConfig{
		Version:    protocol.Version2,
		Key:        clientKey,
		Cert:       issue(clientKey),
		CA:         ca.Certificate(),
		ServerName: "server.example", // usually the URL's host
		Extension:  protocol.ExtensionOff,
	}
	conn, err := dial(server.URL, client)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.State().Suite, conn.State().Peer.Cert.Names())

	client.ServerName = "other.example"
	_, err = dial(server.URL, client)
	var wrong *protocol.IdentityError
	if errors.As(err, &wrong) {
		fmt.Println(wrong)
	}
	// Output:
	// xsalsa20-poly1305 [server.example]
	// the server's identity: certificate refused: for other host names
}

// newKey returns a fresh key pair. Programs keep theirs in a file: see certs.LoadOrCreateKeyPair.
func newKey() *certs.KeyPair {
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// dial opens the WebSocket at an http:// address and performs the client's side of the handshake.
func dial(address string, cfg protocol.ClientConfig) (*protocol.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dialer := protocol.NewDialer(nil, nil)
	ws, _, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(address, "http"), nil)
	if err != nil {
		return nil, err
	}
	return protocol.Client(ctx, ws, cfg)
}

// echo sends back each record until the client closes.
func echo(conn *protocol.Conn) {
	defer conn.Close()
	for {
		record, err := conn.ReadRecord(nil)
		if err == nil {
			err = conn.WriteRecords(record)
		}
		if errors.Is(err, io.EOF) {
			return // the client has closed as planned
		}
		if err != nil {
			log.Print(err)
			return
		}
	}
}
