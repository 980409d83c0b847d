package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel"

	"github.com/urfave/cli/v2"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "run a remote and a local in one process on loopback, nothing to set up",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "socks", Aliases: []string{"D"}, EnvVars: env("socks"), Value: defaultSocks, Category: "listening",
				Usage: "be a SOCKS5, SOCKS4a and HTTP proxy on `ADDR`; a free port is taken when the default is in use"},
			&cli.BoolFlag{Name: "print-ready", EnvVars: env("print-ready"), Category: "output", Usage: "print a line of JSON once everything is up, and nothing else"},
			logLevelFlag(),
		},
		Action: runDemo,
	}
}

func runDemo(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	log, err := newLogger(c)
	if err != nil {
		return err
	}
	doors := &doors{}
	err = doors.openSocks(c.String("socks"), "", log)
	if err != nil && !c.IsSet("socks") {
		err = doors.openSocks("127.0.0.1:0", "", log)
	}
	if err != nil {
		return cannotListen(c.String("socks"), "--socks", "give another address with --socks", err)
	}
	defer doors.close()
	signals := catchInterrupts(c.Context, log)
	defer signals.stop()

	// The local is stopped before the remote, so that both end without losing each other.
	background, stopBackground := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stopBackground()

	page, err := startPage(background, &running)
	if err != nil {
		return err
	}
	remoteKey, localKey, err := twoKeys()
	if err != nil {
		return err
	}
	address, err := startRemote(background, &running, remoteKey, localKey.Public())
	if err != nil {
		return err
	}
	pin := remoteKey.Public()
	opts := &localOptions{address: address, key: localKey, trust: &remoteTrust{pin: &pin}}
	opts.node = tunnel.LocalConfig{
		Address: address,
		Key:     localKey,
		Log:     log,

		RequireForwardSecrecy: true,

		VerifyRemote: func(peer protocol.Peer) error {
			return opts.trust.verify(peer)
		},
	}
	if !c.Bool("print-ready") {
		fmt.Fprintf(c.App.Writer, "remote  %s\nsocks   %s\n\ntry     curl --proxy socks5h://%s %s\nstop    Ctrl-C\n\n",
			address, doors.socksAddress(), doors.socksAddress(), page)
	}
	return serveLocal(signals, opts, doors, "", c.Bool("print-ready"))
}

func twoKeys() (a, b *certs.KeyPair, err error) {
	if a, err = certs.GenerateKeyPair(rand.Reader); err != nil {
		return nil, nil, err
	}
	b, err = certs.GenerateKeyPair(rand.Reader)
	return a, b, err
}

// startRemote serves a remote that admits one client.
func startRemote(ctx context.Context, running *sync.WaitGroup, key *certs.KeyPair, client certs.PublicKey) (tunnel.Address, error) {
	authorized, err := certs.ParseAuthorizedKeys(strings.NewReader(client.String()))
	if err != nil {
		return tunnel.Address{}, err
	}
	node, err := tunnel.NewRemote(tunnel.RemoteConfig{
		Identity: tunnel.RemoteIdentity{Key: key},
		Trust:    tunnel.RemoteTrust{Authorized: authorized},
	})
	if err != nil {
		return tunnel.Address{}, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return tunnel.Address{}, cannotListen("127.0.0.1:0", "", "", err)
	}
	running.Go(func() { node.Serve(ctx, ln) })
	return tunnel.ParseAddress("ws://" + ln.Addr().String() + "/")
}

// startPage serves a page to look at through the tunnel, on a machine without a network too. It returns the page's URL.
func startPage(ctx context.Context, running *sync.WaitGroup) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", cannotListen("127.0.0.1:0", "", "", err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "this page came through culvert")
		}),
	}
	running.Go(func() { server.Serve(ln) })
	context.AfterFunc(ctx, func() { server.Close() })
	return "http://" + ln.Addr().String() + "/", nil
}
