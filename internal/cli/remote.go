package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

func remoteCommand() *cli.Command {
	return &cli.Command{
		Name:  "remote",
		Usage: "serve the node where the traffic comes out",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "listen", EnvVars: env("listen"), Value: cli.NewStringSlice("127.0.0.1:8080"), Category: "listening",
				Usage: "serve WebSockets on `ADDR`: host:port, :port or unix:/path; repeatable"},
			&cli.StringFlag{Name: "path", EnvVars: env("path"), Value: "/", Category: "listening", Usage: "`PATH` of the WebSocket"},
			&cli.StringFlag{Name: "tls-cert", EnvVars: env("tls-cert"), Category: "listening",
				Usage: "speak TLS, with the certificate in `FILE` and those between it and its CA, in PEM"},
			&cli.StringFlag{Name: "tls-key", EnvVars: env("tls-key"), Category: "listening",
				Usage: "the key of --tls-cert in `FILE`, in PEM, which only its owner may read"},
			&cli.StringFlag{Name: "fallback", EnvVars: env("fallback"), Category: "listening",
				Usage: "answer all other HTTP requests with what the site at `URL` answers"},
			keyFlag(),
			&cli.StringFlag{Name: "authorized-keys", EnvVars: env("authorized-keys"), Category: "admission",
				Usage: "admit the clients whose public keys are listed in `FILE`, one a line"},
			&cli.BoolFlag{Name: "allow-anyone", EnvVars: env("allow-anyone"), Category: "admission",
				Usage: "admit every client: an open proxy for whoever reaches it"},
			&cli.StringFlag{Name: "cert", EnvVars: env("cert"), Category: "identity",
				Usage: "our certificate in `FILE`, for clients that speak version 2"},
			&cli.StringFlag{Name: "ca", EnvVars: env("ca"), Category: "admission",
				Usage: "the CA in `FILE` vouches for clients' certificates"},
			&cli.BoolFlag{Name: "require-client-cert", EnvVars: env("require-client-cert"), Category: "admission",
				Usage: "admit only clients with a certificate of --ca"},
			&cli.StringFlag{Name: "revoked", EnvVars: env("revoked"), Category: "admission",
				Usage: "refuse the certificates whose gid is listed in `FILE`, one a line"},
			&cli.BoolFlag{Name: "require-forward-secrecy", EnvVars: env("require-forward-secrecy"), Category: "admission",
				Usage: "refuse clients that have only the specified handshake, whose recorded traffic a stolen key opens"},
			&cli.StringSliceFlag{Name: "allow", EnvVars: env("allow"), Category: "targets",
				Usage: "let clients reach only the targets of `RULE`: hosts, and ports if you like, as in *.example.org:443; repeatable"},
			&cli.StringSliceFlag{Name: "deny", EnvVars: env("deny"), Category: "targets",
				Usage: "keep clients from the targets of `RULE`, as in 10.0.0.0/8 or *:25; wins over --allow; repeatable"},
			&cli.StringSliceFlag{Name: "reverse", EnvVars: env("reverse"), Category: "targets",
				Usage: "let clients have the remote listen by -R on `RULE`, as in localhost:8022, *:8000-8999 or unix:/path; repeatable"},
			&cli.DurationFlag{Name: "resume-window", EnvVars: env("resume-window"), Value: mux.DefaultResumeWindow, Category: "limits",
				Usage: "keep the session of a client that lost its connection for `TIME`"},
			&cli.IntFlag{Name: "max-sessions", EnvVars: env("max-sessions"), Value: tunnel.DefaultMaxSessions, Category: "limits",
				Usage: "most `N` clients at a time"},
			&cli.IntFlag{Name: "max-streams", EnvVars: env("max-streams"), Value: mux.DefaultMaxStreams, Category: "limits",
				Usage: "most `N` streams of one client at a time"},
			&cli.BoolFlag{Name: "print-ready", EnvVars: env("print-ready"), Category: "output",
				Usage: "print a line of JSON once everything is up"},
			logLevelFlag(),
		},
		Action: runRemote,
	}
}

func runRemote(c *cli.Context) error {
	shareProcessors()
	if err := noArguments(c); err != nil {
		return err
	}
	log, err := newLogger(c)
	if err != nil {
		return err
	}
	if err := checkRemoteFlags(c); err != nil {
		return err
	}
	settings, err := loadSettings(c)
	if err != nil {
		return err
	}
	node, err := newRemote(c, settings, log)
	if err != nil {
		return err
	}
	listeners, err := listenAll(c.StringSlice("listen"))
	if err != nil {
		return err
	}
	return serveRemote(c, node, settings, listeners, log)
}

// checkRemoteFlags refuses values that no remote can have.
func checkRemoteFlags(c *cli.Context) error {
	switch {
	case c.Duration("resume-window") < time.Second:
		return usage("durations look like 20s or 2m", "--resume-window is shorter than a second")
	case c.Int("max-sessions") < 1 || c.Int("max-streams") < 1:
		return usage("give a number from 1", "--max-sessions or --max-streams is out of range")
	case !strings.HasPrefix(c.String("path"), "/"):
		return usage("such as /tunnel", "--path must begin with /")
	}
	return nil
}

// newRemote makes the node that the flags and the settings say.
func newRemote(c *cli.Context, settings remoteSettings, log zerolog.Logger) (*tunnel.Remote, error) {
	fallback, err := parseFallback(c.String("fallback"))
	if err != nil {
		return nil, err
	}
	node, err := tunnel.NewRemote(tunnel.RemoteConfig{
		Identity: settings.identity,
		Trust:    settings.trust,
		Rules:    settings.rules,
		Reverse:  settings.reverse,
		Path:     c.String("path"),
		Fallback: fallback,

		RequireForwardSecrecy: c.Bool("require-forward-secrecy"),

		ResumeWindow: c.Duration("resume-window"),
		MaxSessions:  c.Int("max-sessions"),
		MaxStreams:   c.Int("max-streams"),
		Log:          log,
	})
	if err != nil {
		return nil, remoteFailure(c, err)
	}
	return node, nil
}

// serveRemote serves the node on the listeners until a signal comes or one of them breaks.
func serveRemote(c *cli.Context, node *tunnel.Remote, settings remoteSettings, listeners []net.Listener, log zerolog.Logger) error {
	signals := catchInterrupts(c.Context, log)
	defer signals.stop()
	defer context.AfterFunc(signals.hard, node.Abort)()
	shown := &remoteTLS{}
	shown.current.Store(settings.tls)
	stopReloading := onHangup(signals.soft, func() {
		if err := reload(c, node, shown); err != nil {
			fmt.Fprintln(os.Stderr, "culvert: not reloaded:", err)
		} else {
			fmt.Fprintln(os.Stderr, "culvert: reloaded")
		}
	})
	defer stopReloading()

	var addresses []string
	for _, ln := range listeners {
		addresses = append(addresses, listenerAddress(ln))
	}
	log.Info().Strs("listen", addresses).Str("path", c.String("path")).Stringer("key", settings.identity.Key.Public()).Msg("remote up")
	if c.Bool("print-ready") {
		printReadyLine(readyLine{Listen: addresses, PublicKey: settings.identity.Key.Public().String()})
	}
	if settings.tls != nil {
		listeners = shown.wrap(listeners)
	}
	if err := node.Serve(signals.soft, listeners...); err != nil {
		return &Failure{exitFailed, "a listener broke", err, ""}
	}
	return signals.result(nil)
}
