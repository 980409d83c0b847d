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
	"culvert/internal/cli/flags"
	"culvert/internal/httplog"
	"culvert/internal/state"
	"culvert/tunnel"

	"github.com/rs/zerolog"
)

type demoOptions struct {
	socks      string
	socksGiven bool
	socksFlag  string // as it was typed
	printReady bool
	log        logOptions
	control    controlOptions
}

func demoCommand(out *outputs) *flags.Command {
	o := &demoOptions{log: logOptions{out: out}}
	return &flags.Command{
		Name:  "demo",
		Usage: "run a remote and a local in one process on loopback, nothing to set up",
		Examples: []string{
			"culvert demo",
			"culvert demo -D 0 --log-level warn",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *demoOptions) define(s *flags.Set) {
	s.Group("listening")
	s.String(&o.socks, "socks,D", defaultSocks, "listen on `ADDR` as a SOCKS5, SOCKS4a and HTTP "+
		"proxy; if the default is in use, on a free port").
		Values(defaultSocks + "\tthe default").Given(&o.socksGiven).TypedAs(&o.socksFlag)
	s.Group("output")
	s.Bool(&o.printReady, "print-ready", readyUsage+", and nothing else")
	o.log.define(s)
	o.control.define(s)
}

func (o *demoOptions) run(ctx context.Context) error {
	log, err := o.log.logger()
	if err != nil {
		return err
	}
	l := &listeners{}
	defer l.close()
	address, err := listenAddress("socks", o.socks, thisMachine, "1080")
	if err != nil {
		return err
	}
	err = l.openSocks(address, "", log)
	if err != nil && !o.socksGiven {
		err = l.openSocks("127.0.0.1:0", "", log)
	}
	if err != nil {
		return cannotListen(address, "give another port with "+o.socksFlag, err)
	}
	signals := catchInterrupts(ctx, log)
	defer signals.stop()

	// The local stops before the remote, so that neither loses its connection to the other.
	background, stopBackground := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stopBackground()

	page, err := startPage(background, &running, log)
	if err != nil {
		return err
	}
	c, err := startRemote(background, &running, log)
	if err != nil {
		return err
	}
	if !o.printReady {
		fmt.Fprintf(o.log.out.stdout, "remote  %s\nsocks   %s\n\n"+
			"try     curl --proxy socks5h://%s %s\nstop    Ctrl-C\n\n",
			c.address, l.socksAddress(), l.socksAddress(), page)
	}
	c.control, err = o.control.open("demo", state.KindLocal, log, o.log.out.version)
	if err != nil {
		return err
	}
	defer c.control.close()
	return runLocal(signals, c, l, localTask{printReady: o.printReady, out: o.log.out})
}

// startRemote serves a remote that admits one client, and returns the client's connection to it.
func startRemote(
	ctx context.Context, running *sync.WaitGroup, log zerolog.Logger,
) (*connection, error) {
	remoteKey, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		return nil, err
	}
	localKey, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		return nil, err
	}
	authorized, err := certs.ParseAuthorizedKeys(strings.NewReader(localKey.Public().String()))
	if err != nil {
		return nil, err
	}
	node, err := tunnel.NewRemote(tunnel.RemoteConfig{
		Identity: tunnel.RemoteIdentity{Key: remoteKey},
		Trust:    tunnel.RemoteTrust{Authorized: authorized},
		Memory:   machineMemory(),

		DrainTimeout: tunnel.DrainTimeout,
	})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, cannotListen("127.0.0.1:0", "", err)
	}
	running.Go(func() { node.Serve(ctx, ln) })
	address, err := tunnel.ParseAddress("ws://" + ln.Addr().String() + "/")
	if err != nil {
		return nil, err
	}
	pin := remoteKey.Public()
	trust := &remoteTrust{pins: []certs.PublicKey{pin}}
	own := remote{address, trust}
	return &connection{remote: own, remotes: []remote{own}, key: localKey, config: tunnel.LocalConfig{
		Address:      address,
		Key:          localKey,
		VerifyRemote: trust.verify,
		Log:          log,
		Memory:       machineMemory(),

		RequireForwardSecrecy: true,
	}}, nil
}

// startPage serves a page to get through the tunnel, so that a machine without a network has one
// too. It returns the page's URL.
func startPage(
	ctx context.Context, running *sync.WaitGroup, log zerolog.Logger,
) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", cannotListen("127.0.0.1:0", "", err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          httplog.New(log),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "this page came through culvert")
		}),
	}
	running.Go(func() { server.Serve(ln) })
	context.AfterFunc(ctx, func() { server.Close() })
	return "http://" + ln.Addr().String() + "/", nil
}
