package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/netfault"

	"github.com/rs/zerolog"
)

// The exit statuses that a shell has for a command that can't be started, and what it adds to the
// number of the signal that killed a command (POSIX.1-2024, XCU 2.8.2).
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

type runOptions struct {
	connect   connectOptions
	forward   forwardOptions
	fastOpen  fastOpenOption
	wait      waitOption
	failover  failoverOptions
	memory    memoryOption
	openProxy string   // the address of the command's proxy; empty for a free port with a password
	socksAuth string   // of -R proxies: USER:PASS or ""
	argv      []string // the command
}

func runCommand(out *outputs) *flags.Command {
	o := &runOptions{}
	o.connect.log.out = out
	return &flags.Command{
		Name:  "run",
		Usage: "run a command with its traffic through a tunnel of its own",
		Examples: []string{
			"culvert run wss://exit.example.org/ -- curl http://intranet.example/",
			"culvert run work -- git fetch",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *runOptions) define(s *flags.Set) {
	o.connect.defineSeveral(s)
	o.forward.define(s)
	o.fastOpen.define(s)
	o.wait.define(s)
	o.failover.define(s)
	o.memory.define(s)
	s.Group("listening")
	s.String(&o.openProxy, "open-proxy", "", "listen on `ADDR`, of loopback, as the command's proxy, "+
		"and require no password, which browsers can't give")
	s.String(&o.socksAuth, "socks-auth", "", "require `USER:PASS` from the clients of an -R proxy; "+
		preferVariable).Secret()
	s.Command(&o.argv)
}

func (o *runOptions) run(ctx context.Context) error {
	shareProcessors()
	program, err := exec.LookPath(o.argv[0])
	if err != nil {
		return startFailure(o.argv[0], err)
	}
	// The log shares standard error with the command.
	makeLog := o.connect.log.quietLogger
	c, l, specs, err := loadForwarding(&o.connect, &o.forward, &o.fastOpen, o.socksAuth, makeLog)
	if err != nil {
		return err
	}
	defer l.close()
	c.config.Wait = o.wait.wait
	if err := o.failover.load(&c.config); err != nil {
		return err
	}
	if c.config.Memory, err = o.memory.load(c.config.Log); err != nil {
		return err
	}
	auth, err := o.openCommandProxy(l, c.config.Log)
	if err != nil {
		return err
	}
	if err := l.openForwards(specs); err != nil {
		return err
	}
	return runThrough(ctx, c, l, &exec.Cmd{
		Path: program, Args: o.argv,
		Env:   proxyEnv(os.Environ(), l.socksAddress(), auth),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
}

// openCommandProxy opens the command's proxy, which asks for auth, USER:PASS, unless that is empty.
func (o *runOptions) openCommandProxy(l *listeners, log zerolog.Logger) (auth string, err error) {
	if o.openProxy == "" {
		const address = "127.0.0.1:0"
		// 26 characters, 130 bits: other users of the machine can't guess it.
		auth = proxyUser + ":" + rand.Text()
		if err := l.openSocks(address, auth, log); err != nil {
			return "", cannotListen(address, "", err)
		}
		return auth, nil
	}
	address, err := listenAddress("open-proxy", o.openProxy, thisMachine, "8118")
	if err != nil {
		return "", err
	}
	if !isLoopbackPort(address) {
		return "", &flags.ValueError{
			Flag: "open-proxy", Value: o.openProxy,
			Why: "without a password it must be a port of loopback", Example: "8118",
		}
	}
	if err := l.openSocks(address, "", log); err != nil {
		return "", cannotListen(address, "give another port with --open-proxy", err)
	}
	return "", nil
}

// isLoopbackPort reports whether address is HOST:PORT with a host of loopback.
func isLoopbackPort(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// startFailure explains why a command can't be started, with the exit status that a shell has for
// that.
func startFailure(name string, err error) error {
	status := exitNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		status, err = exitNotFound, errors.New("not found")
	}
	return exit.Fail(status, "can't run "+name, netfault.Cause(err), "")
}

// proxyUser is the user name of the proxy's credential. The secret is the password.
const proxyUser = "culvert"

// direct lists the hosts that a command reaches without the proxy: its own machine.
const direct = "localhost,127.0.0.1,::1"

// ownPrefix begins the names of culvert's variables.
const ownPrefix = "CULVERT_"

// proxyEnv returns environ with the variables that make programs use the proxy at address with
// auth, USER:PASS or empty, and without culvert's own, which may hold secrets that are none of the
// command's business.
//
// The variables have no common form: some programs read those in capitals, some the others. The
// proxy is an http:// one in all of them, although the port speaks SOCKS as well: all programs know
// that scheme, and some fail on any other, even in a variable that they have no use for.
func proxyEnv(environ []string, address, auth string) []string {
	var env []string
	for _, v := range environ {
		if !strings.HasPrefix(strings.ToUpper(v), ownPrefix) {
			env = append(env, v)
		}
	}
	proxy := url.URL{Scheme: "http", Host: address}
	if user, secret, ok := strings.Cut(auth, ":"); ok {
		proxy.User = url.UserPassword(user, secret)
	}
	for _, v := range []struct{ name, value string }{
		{"ALL_PROXY", proxy.String()},
		{"HTTP_PROXY", proxy.String()},
		{"HTTPS_PROXY", proxy.String()},
		{"NO_PROXY", direct},
	} {
		// The last value of a name wins.
		env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
	}
	return env
}

// runThrough connects, serves the listeners while cmd runs, and returns cmd's status as an
// exit.Status. If the tunnel fails, cmd goes on without it and sees what that means for itself.
func runThrough(ctx context.Context, c *connection, l *listeners, cmd *exec.Cmd) error {
	signals := catchSignals(ctx)
	defer signals.stop()
	s, err := start(signals.idle, c, l, signals.reloads)
	if err != nil {
		return err
	}
	if s == nil {
		return signals.interrupted()
	}
	if err := s.serve(signals.idle); err != nil {
		s.stop()
		if signals.idle.Err() != nil {
			return signals.interrupted()
		}
		return err
	}
	watched, stopWatching := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if err := s.wait(watched, nil); err != nil {
			c.config.Log.Error().Err(err).Msg("the tunnel failed")
		}
	})
	err = signals.wait(cmd)
	defer context.AfterFunc(signals.idle, s.node.Abort)()
	stopWatching()
	watching.Wait()
	s.stop()
	return err
}
