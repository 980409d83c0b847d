package tunnel_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/policy"
)

// A remote and a local in one process: the local knows the remote by its key, and the remote admits
// the local by its key. One connection goes through the tunnel to a server that echoes.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()

	// The target of the connection.
	target := listen()
	running.Go(func() { echoOnce(target) })

	// Both ends have keys.
	remoteKey, localKey := newKey(), newKey()
	authorized, err := certs.ParseAuthorizedKeys(strings.NewReader(localKey.Public().String()))
	if err != nil {
		log.Fatal(err)
	}

	// The remote reaches the target and nothing else.
	rules, err := policy.ParseRules([]string{target.Addr().String()}, nil)
	if err != nil {
		log.Fatal(err)
	}
	remote, err := tunnel.NewRemote(tunnel.RemoteConfig{
		Identity: tunnel.RemoteIdentity{Key: remoteKey},
		Trust:    tunnel.RemoteTrust{Authorized: authorized},
		Rights:   policy.Rights{Rules: rules},
	})
	if err != nil {
		log.Fatal(err)
	}
	listener := listen()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	running.Go(func() { remote.Serve(serving, listener) })

	// The local connects, and stays connected until its context is done.
	address, err := tunnel.ParseAddress("ws://" + listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	local := tunnel.NewLocal(tunnel.LocalConfig{
		Address: address,
		Key:     localKey,
		VerifyRemote: func(peer protocol.Peer) error {
			if !peer.Key.Equal(remoteKey.Public()) {
				return certs.ErrUnknownRemote
			}
			return nil
		},
	})
	connected, disconnect := context.WithCancel(ctx)
	defer disconnect()
	running.Go(func() { local.Run(connected) })

	// A connection through the tunnel is a net.Conn.
	conn, err := local.DialContext(ctx, "tcp", target.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello from the other side")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer)

	// The rules hold for every connection.
	if _, err := local.DialContext(ctx, "tcp", "example.org:443"); err != nil {
		fmt.Println("example.org:", err)
	}
	// Output:
	// hello from the other side
	// example.org: not allowed by the remote's rules
}

func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

// echoOnce echoes what one connection sends.
func echoOnce(ln net.Listener) {
	conn, err := ln.Accept()
	ln.Close()
	if err != nil {
		return
	}
	defer conn.Close()
	io.Copy(conn, conn)
}

func newKey() *certs.KeyPair {
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return key
}
