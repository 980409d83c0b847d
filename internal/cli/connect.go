package cli

import (
	"errors"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// connectOptions are the remotes to connect to, and how: what local, run, check and speed have in
// common.
type connectOptions struct {
	remotes  []remoteURL // in order of preference
	identity identityOptions
	trust    trustOptions
	session  sessionOptions
	route    routeOptions
	log      logOptions
}

// define defines the flags of a command for one remote.
func (o *connectOptions) define(s *flags.Set) {
	o.defineRemote(s)
	o.defineFlags(s)
}

// defineSeveral is define for a command that several remotes may be given to.
func (o *connectOptions) defineSeveral(s *flags.Set) {
	o.defineRemote(s).Repeated()
	o.defineFlags(s)
}

func (o *connectOptions) defineRemote(s *flags.Set) *flags.Argument {
	return s.Argument("REMOTE_URL", func(text string) error {
		remote, err := parseRemote(text)
		o.remotes = append(o.remotes, remote)
		return err
	}).Host().Candidates(o.trust.candidates)
}

func (o *connectOptions) defineFlags(s *flags.Set) {
	o.identity.defineKey(s)
	o.trust.defineKeys(s)
	s.String(&o.identity.cert, "cert", "",
		"present the certificate in `FILE` to a remote that requires one")
	o.trust.defineSecrecy(s)
	o.session.define(s)
	o.route.define(s)
	o.log.define(s)
}

// sessionOptions are timeouts.
type sessionOptions struct {
	keepalive        time.Duration
	connectTimeout   time.Duration
	handshakeTimeout time.Duration
	noSessionHeader  bool
	congestion       congestionOption
}

func (o *sessionOptions) define(s *flags.Set) {
	s.Group("session")
	s.Duration(&o.keepalive, "keepalive", mux.DefaultKeepalive,
		"ping after `TIME` without traffic, so that proxies keep the connection open; 0 disables pings")
	s.Duration(&o.connectTimeout, "connect-timeout", tunnel.DefaultConnectTimeout,
		"give up an attempt to connect after `TIME`, all steps together")
	s.Duration(&o.handshakeTimeout, "handshake-timeout", 0,
		"limit the handshake to `TIME` within --connect-timeout; 0 sets no limit of its own")
	s.Bool(&o.noSessionHeader, "no-session-header",
		"send no Culvert-Session, by which load balancers keep a session on one node")
	o.congestion.define(s)
}

// check returns an error that has that of each option, of which the first is reported.
func (o *sessionOptions) check() error {
	return errors.Join(
		leastDuration("keepalive", o.keepalive, 0, mux.DefaultKeepalive),
		leastDuration("connect-timeout", o.connectTimeout, 1, tunnel.DefaultConnectTimeout),
		leastDuration("handshake-timeout", o.handshakeTimeout, 0, tunnel.DefaultConnectTimeout),
		o.congestion.check(),
	)
}

// waitOption lets a command wait for a remote that can't be reached when it starts.
type waitOption struct{ wait time.Duration }

func (o *waitOption) define(s *flags.Set) {
	s.Group("session")
	s.OptionalDuration(&o.wait, "wait", waitForever,
		"keep trying while the remote can't be reached at first; --wait=TIME gives up after TIME")
}

// waitForever is the value of --wait without a duration, as tunnel.LocalConfig has it.
const waitForever = -1

// connection is what connections to one remote, or to several, take.
type connection struct {
	remote  // the one that is concerned: the best one, unless about has chosen
	remotes []remote
	key     *certs.KeyPair
	config  tunnel.LocalConfig
	status  *statusServer // nil for none
	control *nodeControl  // what observers see of it; nil for none
	out     *outputs      // whose log is opened again at a reload; nil for none
}

// load reads the files that the options name.
func (o *connectOptions) load() (*connection, error) {
	if err := o.session.check(); err != nil {
		return nil, err
	}
	if o.identity.cert != "" && o.trust.ca == "" {
		return nil, exit.Usagef("give the CA's certificate with --ca FILE",
			"--cert needs --ca: only version 2 of the handshake uses certificates")
	}
	ca, err := loadCA("ca", o.trust.ca)
	if err != nil {
		return nil, err
	}
	remotes, err := o.loadRemotes(ca)
	if err != nil {
		return nil, err
	}
	key, cert, err := o.identity.load(certs.UseClient)
	if err == nil {
		err = checkUnexpired(cert)
	}
	if err != nil {
		return nil, err
	}
	own := &ownCertificate{path: o.identity.cert, key: key, end: certs.UseClient, last: cert}
	config := tunnel.LocalConfig{
		Address:          remotes[0].address,
		Key:              key,
		VerifyRemote:     remotes[0].trust.verify,
		CA:               ca,
		Cert:             cert,
		NextCert:         own.next,
		ConnectTimeout:   o.session.connectTimeout,
		HandshakeTimeout: o.session.handshakeTimeout,
		NoSessionHeader:  o.session.noSessionHeader,

		RequireForwardSecrecy: o.trust.requireForwardSecrecy,
		Keepalive:             o.session.keepalive,
		Memory:                machineMemory(),
		Congestion:            o.session.congestion.choice,
	}
	if config.Keepalive == 0 {
		config.Keepalive = -1
	}
	for _, other := range remotes[1:] {
		config.Others = append(config.Others, tunnel.OtherRemote{
			Address: other.address, VerifyRemote: other.trust.verify,
		})
	}
	if err := o.route.load(&config); err != nil {
		return nil, err
	}
	return &connection{remote: remotes[0], remotes: remotes, key: key, config: config}, nil
}

// loadQuiet is load for a command that tells its result itself, and logs only what is beyond that.
func (o *connectOptions) loadQuiet() (*connection, error) {
	c, err := o.load()
	if err == nil {
		c.config.Log, err = o.log.quietLogger()
	}
	return c, err
}
