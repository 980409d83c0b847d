package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"culvert/certs"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/urfave/cli/v2"
)

const admitHint = "give --authorized-keys FILE, or --ca FILE with --require-client-cert, or --allow-anyone"

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
	if err := noArguments(c); err != nil {
		return err
	}
	log, err := newLogger(c)
	if err != nil {
		return err
	}
	if c.Duration("resume-window") < time.Second {
		return usage("durations look like 20s or 2m", "--resume-window is shorter than a second")
	}
	if c.Int("max-sessions") < 1 || c.Int("max-streams") < 1 {
		return usage("give a number from 1", "--max-sessions or --max-streams is out of range")
	}
	if !strings.HasPrefix(c.String("path"), "/") {
		return usage("such as /tunnel", "--path must begin with /")
	}
	settings, err := loadSettings(c)
	if err != nil {
		return err
	}
	fallback, err := parseFallback(c.String("fallback"))
	if err != nil {
		return err
	}
	node, err := tunnel.NewRemote(tunnel.RemoteConfig{
		Identity:    settings.identity,
		Trust:       settings.trust,
		Rules:       settings.rules,
		Reverse:     settings.reverse,
		Path:        c.String("path"),
		Fallback:    fallback,
		MaxSessions: c.Int("max-sessions"),

		ResumeWindow: c.Duration("resume-window"),

		MaxStreams: c.Int("max-streams"),

		RequireForwardSecrecy: c.Bool("require-forward-secrecy"),
		Log:                   log,
	})
	if err != nil {
		return remoteFailure(c, err)
	}
	listeners, err := listenAll(c.StringSlice("listen"))
	if err != nil {
		return err
	}
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

// remoteSettings are what SIGHUP has a remote read again.
type remoteSettings struct {
	identity tunnel.Identity
	trust    tunnel.Trust
	rules    *tunnel.Rules
	reverse  *tunnel.ReverseRules
	tls      *tls.Certificate // nil without TLS
}

func loadSettings(c *cli.Context) (s remoteSettings, err error) {
	if s.trust, err = loadTrust(c); err != nil {
		return s, err
	}
	if s.identity, err = loadIdentity(c); err != nil {
		return s, err
	}
	if s.rules, err = loadRules(c); err != nil {
		return s, err
	}
	if s.reverse, err = loadReverseRules(c); err != nil {
		return s, err
	}
	s.tls, err = loadServerCertificate(c)
	return s, err
}

// parseFallback reads --fallback, nil when it is not given.
func parseFallback(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	site, err := tunnel.ParseFallback(text)
	if err != nil {
		return nil, usage("such as http://127.0.0.1:8000/", "bad --fallback: %v", err)
	}
	return site, nil
}

// remoteFailure explains why a remote's settings are not taken.
func remoteFailure(c *cli.Context, err error) error {
	var line *tunnel.KeyLineError
	switch {
	case errors.As(err, &line):
		return &Failure{exitFailed, "can't use the authorized keys", fmt.Errorf("%s: %w", c.String("authorized-keys"), err), ruleHint}
	case errors.Is(err, tunnel.ErrNobodyAdmitted):
		return usage(admitHint, "%v", err)
	}
	return usage("", "%v", err)
}

const ruleHint = "a rule is HOST or HOST:PORTS, such as *.example.org:443, 10.0.0.0/8:22,80-90 or [2001:db8::/32]"

// loadRules reads which targets clients may reach.
func loadRules(c *cli.Context) (*tunnel.Rules, error) {
	allow, err := currentList(c, "allow")
	if err != nil {
		return nil, err
	}
	deny, err := currentList(c, "deny")
	if err != nil {
		return nil, err
	}
	rules, err := tunnel.ParseRules(allow, deny)
	if err != nil {
		return nil, usage(ruleHint, "%v", err)
	}
	return rules, nil
}

const reverseHint = "a rule is ADDRESS, localhost or *, each with :PORTS if you like, such as localhost:8022 or *:8000-8999, or unix:/path"

// loadReverseRules reads what clients may have the remote listen on.
func loadReverseRules(c *cli.Context) (*tunnel.ReverseRules, error) {
	texts, err := currentList(c, "reverse")
	if err != nil {
		return nil, err
	}
	rules, err := tunnel.ParseReverseRules(texts)
	if err != nil {
		return nil, usage(reverseHint, "%v", err)
	}
	return rules, nil
}

// loadIdentity reads what the remote shows.
func loadIdentity(c *cli.Context) (tunnel.Identity, error) {
	cert, err := loadCertificate(c, "cert")
	if err != nil {
		return tunnel.Identity{}, err
	}
	key, err := loadKey(c)
	if err != nil {
		return tunnel.Identity{}, err
	}
	return tunnel.Identity{Key: key, Cert: cert}, checkCertified(cert, key)
}

// loadTrust reads who is admitted.
func loadTrust(c *cli.Context) (tunnel.Trust, error) {
	trust := tunnel.Trust{RequireCert: c.Bool("require-client-cert"), Anyone: c.Bool("allow-anyone")}
	switch {
	case trust.Anyone && (c.String("authorized-keys") != "" || trust.RequireCert):
		return trust, usage("leave one of them out", "--allow-anyone contradicts --authorized-keys and --require-client-cert")
	case trust.RequireCert && c.String("ca") == "":
		return trust, usage("give the CA's certificate with --ca FILE", "--require-client-cert needs --ca")
	case !trust.RequireCert && (c.String("ca") != "" || c.String("revoked") != ""):
		return trust, usage("add --require-client-cert, or leave them out", "--ca and --revoked do nothing without --require-client-cert")
	case trust.RequireCert && c.String("cert") == "":
		return trust, usage("give the remote's own certificate with --cert FILE", "--require-client-cert needs --cert: only version 2 asks for certificates, and it shows one")
	}
	var err error
	if trust.CA, err = loadCertificate(c, "ca"); err != nil {
		return trust, err
	}
	if path := c.String("authorized-keys"); path != "" {
		trust.Authorized, err = readList(path, certs.ParseAuthorizedKeys)
		if err != nil {
			return trust, &Failure{exitFailed, "can't use the authorized keys", err, ""}
		}
	}
	if path := c.String("revoked"); path != "" {
		trust.Revoked, err = readList(path, certs.ParseRevocations)
		if err != nil {
			return trust, &Failure{exitFailed, "can't use the list of revoked certificates", err, ""}
		}
	}
	if trust.Authorized == nil && !trust.RequireCert && !trust.Anyone {
		return trust, usage(admitHint, "%v", tunnel.ErrNobodyAdmitted)
	}
	return trust, nil
}

// reload gives a remote its settings anew, all of them or none.
func reload(c *cli.Context, node *tunnel.Remote, shown *remoteTLS) error {
	settings, err := loadSettings(c)
	if err != nil {
		return err
	}
	if err := node.Reload(settings.identity, settings.trust, settings.rules, settings.reverse); err != nil {
		return remoteFailure(c, err)
	}
	shown.current.Store(settings.tls)
	return nil
}

// listenAll binds every address or none.
func listenAll(addresses []string) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, address := range addresses {
		ln, err := listen(address)
		if err != nil {
			for _, ln := range listeners {
				ln.Close()
			}
			return nil, cannotListen(address, "--listen", "give another address with --listen", err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return tunnel.ListenUnix(path)
	}
	return net.Listen("tcp", address)
}

func listenerAddress(ln net.Listener) string {
	if addr := ln.Addr(); addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	return ln.Addr().String()
}
