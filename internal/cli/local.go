package cli

import (
	"context"
	"slices"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/state"
	"culvert/tunnel"

	"github.com/rs/zerolog"
)

type localOptions struct {
	connect    connectOptions
	proxy      proxyOptions
	forward    forwardOptions
	fastOpen   fastOpenOption
	wait       waitOption
	failover   failoverOptions
	memory     memoryOption
	stdio      string // target of -W, or ""
	noCommand  bool
	printReady bool
	background backgroundOptions
	status     statusOptions
	control    controlOptions
}

func localCommand(out *outputs) *flags.Command {
	o := &localOptions{}
	o.connect.log.out = out
	return &flags.Command{
		Name: "local",
		Usage: "open the near end of the tunnel: a SOCKS and HTTP proxy and port forwards, " +
			"until interrupted",
		Examples: []string{
			"culvert local wss://exit.example.org/",
			"culvert local -L 8022:git:22 wss://exit.example.org/ wss://spare.example.org/",
		},
		Hosts:  true,
		Define: o.define,
		Run:    o.run,
	}
}

func (o *localOptions) define(s *flags.Set) {
	o.connect.defineSeveral(s)
	o.proxy.define(s)
	o.forward.define(s)
	o.fastOpen.define(s)
	o.wait.define(s)
	o.failover.define(s)
	o.memory.define(s)
	s.Group("listening")
	s.String(&o.stdio, "W", "", "connect standard input and output to `HOST:PORT` or unix:/PATH, "+
		"for ssh's ProxyCommand; disables --socks unless that is given, and what else a weaker "+
		"place, such as the configuration file, has this machine listen on").
		Overrides("socks", "L", "R", "pac", "pac-direct", "status", "status-host", "pprof",
			"print-ready", "f", "pid-file")
	s.Bool(&o.noCommand, "N", "accepted for those who are used to ssh -N: "+
		"culvert never runs a command at the remote")
	s.Group("output")
	s.Bool(&o.printReady, "print-ready", readyUsage)
	o.background.define(s)
	o.status.define(s)
	o.control.define(s)
}

// fastOpenOption chooses when clients get the reply that their target is reached before it is.
type fastOpenOption struct{ mode string }

// fastOpenModes are the values of --fast-open, each at its mode's number.
var fastOpenModes = [...]string{
	tunnel.FastOpenAuto:   "auto",
	tunnel.FastOpenAlways: "always",
	tunnel.FastOpenNever:  "never",
}

func (o *fastOpenOption) define(s *flags.Set) {
	s.Group("session")
	s.String(&o.mode, "fast-open", "auto", "report success to clients before the target is reached: "+
		"`MODE` auto for targets reached within the last 5 minutes, or always, or never").
		Values(fastOpenModes[:]...)
}

// load returns the mode.
func (o *fastOpenOption) load() (tunnel.FastOpen, error) {
	mode := slices.Index(fastOpenModes[:], o.mode)
	if mode < 0 {
		return 0, &flags.ValueError{
			Flag: "fast-open", Value: o.mode, Why: "it is auto, always or never", Example: "auto",
		}
	}
	return tunnel.FastOpen(mode), nil
}

func (o *localOptions) run(ctx context.Context) error {
	shareProcessors()
	if err := o.checkTask(); err != nil {
		return err
	}
	if err := o.background.open(o.connect.log.out); err != nil {
		return err
	}
	defer o.background.close()
	c, l, err := o.load()
	if err != nil {
		return err
	}
	defer l.close()
	c.out = o.connect.log.out
	c.control, err = o.control.open("local", state.KindLocal, c.config.Log,
		o.connect.log.out.version)
	if err != nil {
		return err
	}
	defer c.control.close()
	if err := c.openStatus(&o.status, l, o.connect.log.out); err != nil {
		return err
	}
	defer c.status.close()
	signals := catchInterrupts(ctx, c.config.Log)
	defer signals.stop()
	task := localTask{
		stdio: o.stdio, printReady: o.printReady, out: o.connect.log.out, detach: o.background.detach,
	}
	return runLocal(signals, c, l, task)
}

// checkTask refuses a local that would do nothing. It checks -W, and lets it disable --socks.
func (o *localOptions) checkTask() error {
	if o.stdio == "" {
		tasks := len(o.forward.forwards) + len(o.forward.reverses)
		if o.proxy.socks == "none" && o.proxy.pac == "" && tasks == 0 {
			return exit.Usagef("give -L, -R or -W, or leave "+o.proxy.socksFlag+" out",
				"nothing to do: no proxy and no forward")
		}
		return nil
	}
	switch {
	case o.printReady:
		return exit.Usagef("leave one of them out",
			"-W and --print-ready both want standard output")
	case o.background.background:
		return exit.Usagef("leave one of them out",
			"-W wants standard input and output, which -f leaves")
	}
	if err := checkTarget(o.stdio); err != nil {
		return &flags.ValueError{
			Flag: "W", Value: o.stdio, Why: err.Error(), Form: "it is HOST:PORT or unix:/PATH",
			Example: "localhost:22",
		}
	}
	if !o.proxy.socksGiven {
		o.proxy.socks = "none"
	}
	return nil
}

// load reads the files that the options name and binds the listeners, before anything else is done:
// a port that is in use is an error at once.
func (o *localOptions) load() (*connection, *listeners, error) {
	makeLog := o.connect.log.logger
	if o.stdio != "" {
		makeLog = o.connect.log.quietLogger // ssh shows what a ProxyCommand logs
	}
	c, l, specs, err := loadForwarding(&o.connect, &o.forward, &o.fastOpen, o.proxy.socksAuth, makeLog)
	if err != nil {
		return nil, nil, err
	}
	c.config.Wait = o.wait.wait
	if err = o.failover.load(&c.config); err == nil {
		c.config.Memory, err = o.memory.load(c.config.Log)
	}
	if err == nil {
		err = l.openProxy(&o.proxy, c.config.Log)
	}
	if err == nil {
		err = l.openForwards(specs)
	}
	if err == nil {
		err = refuseLeft("")
	}
	if err != nil {
		l.close()
		return nil, nil, err
	}
	return c, l, nil
}

// loadForwarding loads what local and run have in common: the connection, and the listeners, of
// which none is open yet. The parsed -L are returned apart.
func loadForwarding(
	connect *connectOptions, forward *forwardOptions, fastOpen *fastOpenOption, socksAuth string,
	makeLog func() (zerolog.Logger, error),
) (*connection, *listeners, []forwardSpec, error) {
	specs, err := parseForwards(forward.forwards)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := connect.load()
	if err != nil {
		return nil, nil, nil, err
	}
	if c.config.FastOpen, err = fastOpen.load(); err != nil {
		return nil, nil, nil, err
	}
	if c.config.Log, err = makeLog(); err != nil {
		return nil, nil, nil, err
	}
	connect.identity.logMade(c.config.Log, c.key.Public())
	l := &listeners{logger: &c.config.Log}
	if l.auth.user, l.auth.pass, err = parseSocksAuth(socksAuth); err != nil {
		return nil, nil, nil, err
	}
	if l.reverse, err = parseReverses(forward.reverses, socksAuth, c.config.Log); err != nil {
		return nil, nil, nil, err
	}
	return c, l, specs, nil
}

// localTask is what a local is for, apart from its listeners.
type localTask struct {
	stdio      string // target of standard input and output, or ""
	printReady bool
	out        *outputs
	detach     func(*interrupts) error // is called once all is up; nil for nothing
}

// runLocal connects and serves the listeners, until a signal comes, the remote turns out to be a
// wrong one, a listener breaks, or standard input and output, if they are for a target, are done.
func runLocal(signals *interrupts, c *connection, l *listeners, task localTask) error {
	ctx := signals.soft
	if c.control != nil {
		c.observe(signals, l)
		c.status.serve(statusSources{
			kind: state.KindLocal, source: c.control.source, events: c.control.events, out: task.out,
		})
	}
	s, err := start(ctx, c, l, signals.reloads)
	if err != nil {
		return signals.result(err)
	}
	if s == nil {
		return signals.beforeReady()
	}
	defer context.AfterFunc(signals.hard, s.node.Abort)()
	if err := s.serve(ctx); err != nil {
		s.stop()
		if ctx.Err() != nil {
			return signals.beforeReady()
		}
		return signals.result(err)
	}
	if task.printReady {
		printReadyLine(task.out.stdout, s.ready())
	}
	if task.detach != nil {
		if err := task.detach(signals); err != nil {
			s.stop()
			return err
		}
	}
	defer supervise(ctx, &signals.manager, c.config.Log, c.readyStatus(), s.checkPath)()
	done := make(chan error, 2)
	var stdio *stdioTask
	if task.stdio != "" {
		stdio = startStdio(ctx, s.node, task.stdio, done)
		defer stdio.stop()
	}
	err = s.wait(ctx, done)
	s.stop()
	if err == nil && stdio != nil && ctx.Err() == nil {
		err = stdio.unsent(task.stdio)
	}
	return signals.result(err)
}
