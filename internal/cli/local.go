package cli

import (
	"context"
	"errors"
	"os"
	"sync"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel"

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
			fastOpenFlag(),
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

func runLocal(c *cli.Context) error {
	shareProcessors()
	stdio := c.String("W")
	if stdio != "" && c.Bool("print-ready") {
		return usage("leave one of them out", "-W and --print-ready both want standard output")
	}
	if err := checkTarget(stdio); stdio != "" && err != nil {
		return usage("it is HOST:PORT, such as localhost:22, or unix:/PATH", "bad -W %q: %v", stdio, err)
	}
	forwards, err := parseForwards(c.StringSlice("L"))
	if err != nil {
		return err
	}
	opts, err := loadLocalOptions(c)
	if err != nil {
		return err
	}
	if err := loadFastOpen(c, &opts.node); err != nil {
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
