package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"

	"culvert/certs"
	"culvert/protocol"
	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

const defaultSocks = "127.0.0.1:1080"

func localCommand() *cli.Command {
	return &cli.Command{
		Name:      "local",
		Usage:     "open the tunnel's near end: a SOCKS and HTTP proxy and port forwards, until interrupted",
		ArgsUsage: "REMOTE_URL",
		Flags: append(remoteFlags(),
			&cli.StringFlag{Name: "socks", Aliases: []string{"D"}, EnvVars: env("socks"), Value: defaultSocks, Category: "listening",
				Usage: "be a SOCKS5, SOCKS4a and HTTP proxy on `ADDR`; none turns it off"},
			&cli.StringFlag{Name: "socks-auth", EnvVars: env("socks-auth"), Category: "listening",
				Usage: "ask the proxy's clients for `USER:PASS`, which keeps SOCKS4 out; better given by its variable, which other users can't see"},
			&cli.StringFlag{Name: "pac", EnvVars: env("pac"), Category: "listening",
				Usage: "serve /proxy.pac on `ADDR`, a file that browsers configure themselves with"},
			&cli.StringSliceFlag{Name: "pac-direct", EnvVars: env("pac-direct"), Category: "listening",
				Usage: "have them reach the hosts of `PATTERN` without the tunnel: *.example.org, or 10.0.0.0/8; repeatable"},
			forwardFlag(),
			reverseFlag(),
			&cli.StringFlag{Name: "W", EnvVars: env("W"), Category: "listening",
				Usage: "join standard input and output to `HOST:PORT` or unix:/PATH, for ssh's ProxyCommand; turns --socks off unless it is given"},
			&cli.BoolFlag{Name: "print-ready", EnvVars: env("print-ready"), Category: "output",
				Usage: "print a line of JSON once everything is up"},
		),
		Action: runLocal,
	}
}

func forwardFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name: "L", EnvVars: env("L"), Category: "listening",
		Usage: "`FORWARD` a port: [BIND:]PORT:HOST:HOSTPORT[/udp], the host as the remote sees it, or unix:/PATH on either side; repeatable",
	}
}

// remoteFlags say which remote to connect to, and how. check and run have them too.
func remoteFlags() []cli.Flag {
	flags := []cli.Flag{
		keyFlag(),
		&cli.StringFlag{Name: "remote-key", EnvVars: env("remote-key"), Category: "identity",
			Usage: "the remote's public `KEY`; no other is accepted"},
		&cli.BoolFlag{Name: "accept-new", EnvVars: env("accept-new"), Category: "identity",
			Usage: "remember the key of a remote that is not known, without asking"},
		&cli.StringFlag{Name: "known-remotes", EnvVars: env("known-remotes"), Category: "identity",
			Usage: "`FILE` of known remotes (default: known_remotes in culvert's configuration folder)"},
		&cli.StringFlag{Name: "ca", EnvVars: env("ca"), Category: "identity",
			Usage: "speak version 2: the remote must show a certificate of the CA in `FILE`"},
		&cli.StringFlag{Name: "cert", EnvVars: env("cert"), Category: "identity",
			Usage: "our certificate in `FILE`, shown when the remote requires one"},
		&cli.BoolFlag{Name: "require-forward-secrecy", EnvVars: env("require-forward-secrecy"), Category: "identity",
			Usage: "refuse a remote that has only the specified handshake, whose recorded traffic a stolen key opens"},
		&cli.DurationFlag{Name: "keepalive", EnvVars: env("keepalive"), Value: mux.DefaultKeepalive, Category: "session",
			Usage: "ping after `TIME` without traffic, so that proxies keep the connection; 0 never"},
		&cli.DurationFlag{Name: "handshake-timeout", EnvVars: env("handshake-timeout"), Value: protocol.DefaultHandshakeTimeout, Category: "session",
			Usage: "most `TIME` that the handshake may take"},
	}
	return append(append(flags, connectionFlags()...), logLevelFlag())
}

// localOptions is what the flags of local, run and check amount to.
type localOptions struct {
	address tunnel.Address
	key     *certs.KeyPair
	trust   *remoteTrust
	node    tunnel.LocalConfig
}

// loadLocalOptions takes the remote's URL from the command's only argument.
func loadLocalOptions(c *cli.Context) (*localOptions, error) {
	url, err := oneArgument(c, "REMOTE_URL")
	if err != nil {
		return nil, err
	}
	return loadRemoteOptions(c, url)
}

func loadRemoteOptions(c *cli.Context, url string) (*localOptions, error) {
	opts := &localOptions{}
	var err error
	if opts.address, err = tunnel.ParseAddress(url); err != nil {
		return nil, usage(usageHint(c), "%v", err)
	}
	if c.Duration("keepalive") < 0 || c.Duration("handshake-timeout") <= 0 {
		return nil, usage("durations look like 20s or 1m", "--keepalive or --handshake-timeout is out of range")
	}
	if c.String("cert") != "" && c.String("ca") == "" {
		return nil, usage("give the CA's certificate with --ca FILE", "--cert needs --ca: only version 2 of the handshake shows certificates")
	}
	ca, err := loadCertificate(c, "ca")
	if err != nil {
		return nil, err
	}
	cert, err := loadCertificate(c, "cert")
	if err != nil {
		return nil, err
	}
	if opts.trust, err = loadRemoteTrust(c, opts.address.Name(), ca); err != nil {
		return nil, err
	}
	if opts.key, err = loadKey(c); err != nil {
		return nil, err
	}
	if err := checkCertified(cert, opts.key); err != nil {
		return nil, err
	}
	opts.node = tunnel.LocalConfig{
		Address:          opts.address,
		Key:              opts.key,
		VerifyRemote:     opts.trust.verify,
		CA:               ca,
		Cert:             cert,
		HandshakeTimeout: c.Duration("handshake-timeout"),

		RequireForwardSecrecy: c.Bool("require-forward-secrecy"),
		Keepalive:             c.Duration("keepalive"),
	}
	if c.Duration("keepalive") == 0 {
		opts.node.Keepalive = -1
	}
	return opts, loadConnection(c, opts.address, &opts.node)
}

func runLocal(c *cli.Context) error {
	stdio := c.String("W")
	if stdio != "" && c.Bool("print-ready") {
		return usage("leave one of them out", "-W and --print-ready both want standard output")
	}
	if err := checkTarget(stdio); stdio != "" && err != nil {
		return usage("it is HOST:PORT, such as localhost:22", "bad -W %q: %v", stdio, err)
	}
	forwards, err := parseForwards(c.StringSlice("L"))
	if err != nil {
		return err
	}
	opts, err := loadLocalOptions(c)
	if err != nil {
		return err
	}
	if opts.node.Log, err = newLogger(c); err != nil {
		return err
	}
	if stdio != "" && !c.IsSet("log-level") {
		opts.node.Log = opts.node.Log.Level(zerolog.WarnLevel) // ssh shows what a ProxyCommand logs
	}
	reverse, err := parseReverses(c, opts.node.Log)
	if err != nil {
		return err
	}
	opts.node.Reverse = len(reverse.specs) > 0
	doors, err := openDoors(c, forwards, opts.node.Log)
	if err != nil {
		return err
	}
	doors.reverse = *reverse
	defer doors.close()
	signals := catchInterrupts(c.Context, opts.node.Log)
	defer signals.stop()
	return serveLocal(signals, opts, doors, stdio, c.Bool("print-ready"))
}

// serveLocal connects, serves the doors, and stops when ctx is done, the remote turns out to be a wrong one, or standard
// input and output have been served.
func serveLocal(signals *interrupts, opts *localOptions, doors *doors, stdio string, printReady bool) error {
	ctx := signals.soft
	node, ended, stop, err := startLocal(ctx, opts)
	if err != nil || node == nil {
		return signals.result(err)
	}
	defer context.AfterFunc(signals.hard, node.Abort)()
	defer onHangup(ctx, node.Retry)()
	if err := doors.reverse.listen(ctx, node, opts); err != nil {
		stop()
		<-ended
		if ctx.Err() != nil {
			err = nil
		}
		return signals.result(err)
	}
	serving, stopServing := context.WithCancel(ctx)
	var servers sync.WaitGroup
	failed := doors.serve(serving, node, &servers)
	if printReady {
		printReadyLine(readyLine{
			Socks:     doors.socksAddress(),
			PAC:       doors.pacURL(),
			Forwards:  doors.forwardAddresses(),
			Reverse:   doors.reverse.addresses(),
			PublicKey: opts.key.Public().String(),
		})
	}
	stdioDone := make(chan error, 1)
	if stdio != "" {
		go func() { stdioDone <- node.Stdio(ctx, stdio, os.Stdin, os.Stdout) }()
	}
	select {
	case err = <-ended: // by the remote, or by ctx
		ended <- nil
		if err != nil {
			err = connectFailure(err, opts)
		}
	case err = <-failed:
		err = &Failure{exitFailed, "a listener broke", err, ""}
	case err = <-stdioDone:
		if err != nil && ctx.Err() == nil {
			err = &Failure{exitFailed, stdio, err, ""}
		}
	case <-ctx.Done():
	}
	stopServing()
	doors.shutdown(&servers)
	stop()
	<-ended
	servers.Wait()
	return signals.result(err)
}

// startLocal runs the node until its first session is up. A remote that is not known is asked about. The node ends when
// stop is called; then ended gets a value. The node is nil when ctx was done first.
func startLocal(ctx context.Context, opts *localOptions) (node *tunnel.Local, ended chan error, stop context.CancelFunc, err error) {
	for asked := false; ; asked = true {
		node = tunnel.NewLocal(opts.node)
		running, stop := context.WithCancel(ctx)
		ended = make(chan error, 1)
		go func() { ended <- node.Run(running) }()
		if _, err = node.WaitSession(ctx); err == nil {
			return node, ended, stop, nil
		}
		stop()
		<-ended // err says why; Run itself may see that it was stopped, and returns nil then
		var identity *protocol.IdentityError
		if !asked && errors.Is(err, certs.ErrUnknownRemote) && errors.As(err, &identity) {
			yes, err := opts.trust.ask(ctx, opts.address.String(), identity.Key)
			if err != nil {
				return nil, nil, nil, &Failure{exitFailed, "can't remember the remote", err, ""}
			}
			if yes {
				continue
			}
		}
		if ctx.Err() != nil {
			return nil, nil, nil, nil
		}
		return nil, nil, nil, connectFailure(err, opts)
	}
}

// doors are the listeners of a local.
type doors struct {
	socks    net.Listener // nil when turned off
	server   *socks.Server
	socksCfg socks.Config
	pac      *pac // nil when it is not served
	forwards []forward
	reverse  reverseDoors
}

// openDoors binds all listeners, before anything else is done: a port that is taken is then told at once.
func openDoors(c *cli.Context, forwards []forwardSpec, log zerolog.Logger) (*doors, error) {
	d := &doors{}
	address := c.String("socks")
	if c.String("W") != "" && !c.IsSet("socks") {
		address = "none"
	}
	if address != "none" {
		if err := d.openSocks(address, c.String("socks-auth"), log); err != nil {
			return nil, cannotListen(address, "--socks", "give another address with --socks, or turn it off with --socks none", err)
		}
	}
	var err error
	if c.String("pac") != "" {
		d.pac, err = openPAC(c.String("pac"), c.StringSlice("pac-direct"), d.socks, c.String("socks-auth") != "", log)
	} else if len(c.StringSlice("pac-direct")) > 0 {
		err = usage("give --pac ADDR", "--pac-direct needs --pac")
	}
	if err == nil {
		err = d.openForwards(forwards)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *doors) openForwards(specs []forwardSpec) error {
	for _, spec := range specs {
		f, err := openForward(spec)
		if err != nil {
			return cannotListen(spec.name(spec.listen), "-L", "give another port with -L", err)
		}
		d.forwards = append(d.forwards, f)
	}
	return nil
}

// parseSocksAuth reads USER:PASS, or nothing.
func parseSocksAuth(auth string) (user, pass string, err error) {
	user, pass, ok := strings.Cut(auth, ":")
	if auth != "" && (!ok || user == "" || pass == "" || len(user) > 255 || len(pass) > 255) {
		return "", "", usage("it is USER:PASS, each of 1 to 255 bytes", "bad --socks-auth")
	}
	return user, pass, nil
}

// openSocks binds the port of the proxy. The clients need auth, which is USER:PASS, or nothing when it is empty. An error is that
// of --socks-auth, a *Failure, or what the system says.
func (d *doors) openSocks(address, auth string, log zerolog.Logger) error {
	user, pass, err := parseSocksAuth(auth)
	if err != nil {
		return err
	}
	ln, err := listen(address)
	if err != nil {
		return err
	}
	d.socks = ln
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && user == "" {
		log.Warn().Stringer("socks", tcp).Msg("anybody who reaches this port can use the tunnel: consider --socks-auth")
	}
	d.socksCfg = socks.Config{Username: user, Password: pass, Classify: socksReply, Log: &log}
	return nil
}

// serve starts serving through the node. A listener that breaks is sent to failed.
func (d *doors) serve(ctx context.Context, node *tunnel.Local, servers *sync.WaitGroup) (failed <-chan error) {
	errs := make(chan error, 3+len(d.forwards)+len(d.reverse.listeners))
	start := func(serve func() error) {
		servers.Go(func() {
			if err := serve(); err != nil {
				errs <- err
			}
		})
	}
	if d.socks != nil {
		cfg := d.socksCfg
		cfg.Dial, cfg.Relay = node.DialContext, node.Relay
		cfg.Associate = func(ctx context.Context) (socks.Association, error) {
			association, err := node.Associate(ctx)
			if err != nil {
				return nil, err // not a typed nil
			}
			return association, nil
		}
		server, err := socks.New(cfg)
		if err != nil {
			errs <- err
			return errs
		}
		d.server = server
		start(func() error { return server.Serve(context.WithoutCancel(ctx), d.socks) })
	}
	if d.pac != nil {
		start(func() error { return d.pac.serve(ctx) })
	}
	for _, f := range d.forwards {
		start(func() error { return f.serve(ctx, node) })
	}
	if err := d.reverse.serve(ctx, node, start); err != nil {
		errs <- err
	}
	return errs
}

// shutdown stops the proxies. The forwards stop with the context that they are served with.
func (d *doors) shutdown(servers *sync.WaitGroup) {
	shutdownSocks(d.server, servers)
	shutdownSocks(d.reverse.server, servers)
}

func (d *doors) close() {
	if d.socks != nil {
		d.socks.Close()
	}
	if d.pac != nil {
		d.pac.listener.Close()
	}
	for _, f := range d.forwards {
		f.close()
	}
	d.reverse.close()
}

func (d *doors) socksAddress() string {
	if d.socks == nil {
		return ""
	}
	return listenerAddress(d.socks)
}

func (d *doors) pacURL() string {
	if d.pac == nil {
		return ""
	}
	return d.pac.url()
}

func (d *doors) forwardAddresses() []string {
	var addresses []string
	for _, f := range d.forwards {
		addresses = append(addresses, f.address())
	}
	return addresses
}

// socksReply translates why a target was not reached.
func socksReply(err error) socks.Reply {
	var refused *mux.OpenError
	switch {
	case errors.Is(err, tunnel.ErrNoSession), errors.Is(err, net.ErrClosed):
		return socks.ReplyUnavailable
	case !errors.As(err, &refused):
		return socks.ClassifyNetError(err)
	}
	switch refused.Code {
	case mux.CodeRefused:
		return socks.ReplyConnectionRefused
	case mux.CodeHostUnreach:
		return socks.ReplyHostUnreachable
	case mux.CodeNameNotFound:
		return socks.ReplyNameNotFound
	case mux.CodeNetUnreach:
		return socks.ReplyNetworkUnreachable
	case mux.CodeTimeout:
		return socks.ReplyTTLExpired
	case mux.CodeNotAllowed:
		return socks.ReplyNotAllowed
	case mux.CodeTooManyStreams, mux.CodeDraining:
		return socks.ReplyUnavailable
	}
	return socks.ReplyGeneralFailure
}
