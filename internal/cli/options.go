package cli

import (
	"slices"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/urfave/cli/v2"
)

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

// fastOpenModes are the values of --fast-open, each at its mode's number.
func fastOpenModes() []string {
	return []string{tunnel.FastOpenAuto: "auto", tunnel.FastOpenAlways: "always", tunnel.FastOpenNever: "never"}
}

func fastOpenFlag() cli.Flag {
	return &cli.StringFlag{Name: "fast-open", EnvVars: env("fast-open"), Value: "auto", Category: "session",
		Usage: "which clients are told that their target is reached before it is: with `MODE` auto those of targets reached within 5 minutes, or always, or never"}
}

// loadFastOpen reads fastOpenFlag.
func loadFastOpen(c *cli.Context, cfg *tunnel.LocalConfig) error {
	mode := slices.Index(fastOpenModes(), c.String("fast-open"))
	if mode < 0 {
		return usage("it is auto, always or never", "bad --fast-open %q", c.String("fast-open"))
	}
	cfg.FastOpen = tunnel.FastOpen(mode)
	return nil
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
