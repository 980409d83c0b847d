package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/quota"
	"culvert/internal/state"
	"culvert/internal/status/control"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

type remoteOptions struct {
	listen     listenOptions
	identity   identityOptions
	admission  admissionOptions
	rules      ruleOptions
	share      shareOptions
	limits     limitOptions
	congestion congestionOption

	printReady bool
	log        logOptions
	access     accessLog
	background backgroundOptions
	status     statusOptions
	control    controlOptions
	takeOver   takeOverOption

	source     *flags.Source
	autoReload autoReload
}

func remoteCommand(out *outputs) *flags.Command {
	o := &remoteOptions{log: logOptions{out: out}}
	return &flags.Command{
		Name:  "remote",
		Usage: "serve as the exit node, which connects to the targets",
		Examples: []string{
			"culvert remote --listen 8080 --advertise ws://exit.example.org:8080/",
			"culvert remote --listen unix:/run/culvert.sock --path /t --deny private",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *remoteOptions) define(s *flags.Set) {
	o.listen.define(s)
	o.identity.defineKey(s)
	s.String(&o.identity.cert, "cert", "",
		"present the certificate in `FILE` to clients that speak version 2 of the handshake")
	o.admission.define(s)
	o.rules.define(s)
	o.share.define(s)
	o.limits.define(s)
	o.congestion.define(s)
	o.autoReload.define(s)
	s.Group("output")
	s.Bool(&o.printReady, "print-ready", readyUsage)
	o.listen.defineAdvertise(s)
	o.log.define(s)
	o.access.define(s)
	o.background.define(s)
	o.status.define(s)
	o.control.define(s)
	o.takeOver.define(s)
	s.Source(&o.source)
}

func (o *remoteOptions) run(ctx context.Context) error {
	shareProcessors()
	o.background.late = o.takeOver.name != ""
	if err := o.background.open(o.log.out); err != nil {
		return err
	}
	defer o.background.close()
	log, err := o.log.logger()
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return err
	}
	o.admission.applyDefault()
	o.autoReload.look(o.files())
	settings, err := o.loadSettings()
	if err != nil {
		return err
	}
	if o.identity.made != "" {
		o.autoReload.made(o.identity.made) // which is no change
	}
	if err := o.access.open(); err != nil {
		return err
	}
	defer o.access.close()
	taking, err := o.takeOver.begin(ctx, settings.identity.Key.Public())
	if err != nil {
		return err
	}
	defer taking.close()
	observed, err := o.control.prepare("remote", state.KindRemote, log, o.log.out.version)
	if err != nil {
		return err
	}
	if taking == nil {
		if err := o.control.bind(observed, "remote"); err != nil {
			return err
		}
	}
	defer observed.close()
	shown := &remoteTLS{}
	tlsConfig := shown.use(settings.tls)
	status, err := o.status.open(o.log.out.version, log)
	if err != nil {
		return err
	}
	defer status.close()
	listeners, err := o.listen.bind()
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	if err := refuseLeft(o.takeOver.name); err != nil {
		return err
	}
	served := &servedRemote{
		observed: observed, shown: shown, listeners: listeners, log: log, taking: taking,
		status: status,
	}
	return o.runNode(ctx, served, settings, tlsConfig)
}

// runNode makes the node, and serves it.
func (o *remoteOptions) runNode(
	ctx context.Context, served *servedRemote, settings remoteSettings, tlsConfig *tls.Config,
) error {
	cfg, err := o.nodeConfig(served, settings, tlsConfig)
	if err != nil {
		return err
	}
	if err := served.taking.state(&cfg); err != nil {
		return err
	}
	ledger, err := o.openLedger(served, settings) // the process before has saved it
	if err != nil {
		return err
	}
	defer ledger.Close()
	if served.taking == nil { // else the process before may be writing
		ledger.RemoveLeftovers()
	}
	served.ledger, cfg.Ledger = ledger, ledger
	if served.node, err = tunnel.NewRemote(cfg); err != nil {
		return o.settingsFailure(err)
	}
	served.show(settings.identity.Key.Public(), served.status.listener())
	served.status.watch(served.node)
	served.status.serve(statusSources{
		kind: state.KindRemote, source: served.observed.source, events: served.observed.events,
		tls: tlsConfig, out: o.log.out,
	})
	return o.serve(ctx, served, settings)
}

// finishTakeOver lets the process before drain, if there is one, and takes its name.
func (o *remoteOptions) finishTakeOver(served *servedRemote) error {
	if served.taking == nil {
		return nil
	}
	listeners := served.listeners
	if served.status != nil {
		listeners = append(slices.Clone(listeners), served.status.ln)
	}
	if err := served.taking.serving(listeners); err != nil {
		return err
	}
	o.control.bindAs(served.observed, served.taking.name)
	if err := o.background.openPID(served.taking.taker.Offer.PID); err != nil {
		served.log.Error().Err(err).Msg("the process's number is not in the file")
	}
	served.log.Info().Str("node", served.taking.name).Msg("taken over: the process before drains")
	return nil
}

// check refuses values that are wrong for any remote.
func (o *remoteOptions) check() error {
	if o.listen.advertise != "" {
		if _, err := tunnel.ParseAddress(o.listen.advertise); err != nil {
			return &flags.ValueError{
				Flag: "advertise", Value: o.listen.advertise, Why: "not the URL of a remote",
				Example: "wss://exit.example.org/",
			}
		}
	}
	if !strings.HasPrefix(o.listen.path, "/") {
		return &flags.ValueError{
			Flag: "path", Value: o.listen.path, Why: "it must begin with /", Example: "/tunnel",
		}
	}
	l := &o.limits
	return errors.Join( // the first is reported
		leastDuration("resume-window", l.resumeWindow, time.Second, mux.DefaultResumeWindow),
		leastDuration("drain-timeout", l.drainTimeout, time.Second, tunnel.DefaultDrainTimeout),
		l.checkAge(),
		leastNumber("max-handshake-rate", l.maxRate, 1, tunnel.DefaultMaxHandshakeRate),
		leastNumber("max-sessions", l.maxSessions, 1, tunnel.DefaultMaxSessions),
		leastNumber("max-streams", l.maxStreams, 1, mux.DefaultMaxStreams),
		o.congestion.check(),
	)
}

// openLedger opens the ledger of quotas. That it can't be kept in a file matters only where there
// are quotas.
func (o *remoteOptions) openLedger(
	served *servedRemote, s remoteSettings,
) (*quota.Ledger, error) {
	ledger, err := o.share.openLedger(s.identity.Key.Public(), served.log)
	if err == nil || s.hasQuotas() {
		return ledger, err
	}
	served.ledgerFailure = err
	return quota.Open("", nil)
}

func (o *remoteOptions) nodeConfig(
	served *servedRemote, s remoteSettings, tlsConfig *tls.Config,
) (cfg tunnel.RemoteConfig, err error) {
	fallback, err := parseFallback(o.listen.fallback)
	if err != nil {
		return cfg, err
	}
	proxies, err := parseProxies(o.listen.proxies)
	if err != nil {
		return cfg, err
	}
	memory, err := o.limits.memory.load(served.log)
	if err != nil {
		return cfg, err
	}
	return tunnel.RemoteConfig{
		Identity: s.identity,
		Trust:    s.trust,
		Rights:   s.rights,
		Path:     o.listen.path,
		TLS:      tlsConfig,
		Taken:    served.status.addresses(),
		Proxies:  proxies,
		Fallback: fallback,

		RequireForwardSecrecy: o.admission.requireForwardSecrecy,

		ResumeWindow: o.limits.resumeWindow,
		DrainTimeout: o.limits.drainTimeout,
		MaxSessions:  o.limits.maxSessions,

		MaxSessionAge:    o.limits.maxAge,
		MaxHandshakeRate: o.limits.maxRate,

		MaxStreams: o.limits.maxStreams,
		Memory:     memory,
		Congestion: o.congestion.choice,
		NoSpeed:    o.limits.noSpeed,
		Events:     served.observed.events,
		Log:        served.log,
		Access:     o.access.recorder(),

		Observer: served.status.observer(),
		Bounds:   served.status.bounds(),
	}, nil
}

// reloader returns what reloads the node, one time after another, whoever asks for it.
func (o *remoteOptions) reloader(
	served *servedRemote, signals *interrupts, spare *reserve,
) func() error {
	var reloading sync.Mutex
	log := served.log
	return func() error {
		reloading.Lock()
		defer reloading.Unlock()
		o.autoReload.seen()
		var err error
		signals.manager.Reload(func() {
			err = spare.spend(func() error {
				o.log.out.reopenLog(log)
				if err := o.access.reopen(); err != nil {
					log.Error().Err(err).Msg("the access log goes on in the old file")
				}
				return o.reload(served)
			})
		})
		served.status.reloaded(err)
		served.noteReload(err)
		return err
	}
}

// serve serves the node on the listeners until a signal comes or one of them breaks.
func (o *remoteOptions) serve(
	ctx context.Context, served *servedRemote, settings remoteSettings,
) error {
	node, listeners, log := served.node, served.listeners, served.log
	signals := catchInterrupts(ctx, log)
	defer signals.stop()
	defer context.AfterFunc(signals.hard, node.Abort)()
	spare := newReserve()
	defer spare.close()
	reload := o.reloader(served, signals, spare)
	defer signals.reloads.watch(func() { reload() })()
	defer o.autoReload.start(signals.reloads, log)()

	settings.warn(log)
	addresses := served.addresses()
	key := settings.identity.Key.Public()
	if err := o.finishTakeOver(served); err != nil {
		return err
	}
	giver := newGiver(served, signals)
	defer giver.end()
	served.observed.serve(control.Node{
		Stop:     signals.drain,
		Reload:   func(context.Context) error { return told(reload()) },
		Move:     func() { node.MoveSessions() },
		Restart:  newSuccessor(giver, &o.background, log).start,
		TakeOver: giver.accept,
	})
	o.identity.logMade(log, key)
	log.Info().Strs("listen", addresses).Str("path", o.listen.path).Stringer("key", key).
		Msg("remote up")
	if line := o.listen.pasteLine(listeners, settings.tls != nil, key); line != "" {
		log.Info().Msg("to connect: " + line)
	}
	if o.printReady {
		printReadyLine(o.log.out.stdout, readyLine{
			Listen: addresses, Status: served.status.url(), PublicKey: key.String(),
		})
	}
	if err := o.background.detach(signals); err != nil {
		return err
	}
	defer startUpkeep(node.MemoryHeld)()
	signals.manager.StopTime = o.limits.drainTimeout + stopMargin
	defer supervise(signals.soft, &signals.manager, log, "listening on "+
		strings.Join(addresses, ", "), func(ctx context.Context) error {
		return o.checkPath(ctx, node, listeners)
	})()
	if err := node.Serve(signals.soft, listeners...); err != nil {
		return exit.Fail(exit.Failed, "a listener broke", err, "")
	}
	return signals.result(nil)
}

// checkPath tries the data path: each listener, and the sessions.
func (o *remoteOptions) checkPath(
	ctx context.Context, node *tunnel.Remote, listeners []net.Listener,
) error {
	for _, ln := range listeners {
		if err := probeHTTP(ctx, ln, o.listen.tlsCert != ""); err != nil {
			return err
		}
	}
	return node.CheckPath()
}
