package cli

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel"
)

// failoverOptions are when new streams go to another remote.
type failoverOptions struct{ after, back time.Duration }

func (o *failoverOptions) define(s *flags.Set) {
	s.Group("session")
	s.Duration(&o.after, "failover-after", tunnel.DefaultFailoverAfter,
		"with several remotes, go to the next one when the connection is lost for `TIME`")
	s.Duration(&o.back, "failback-after", tunnel.DefaultFailbackAfter,
		"go back to a better remote when it has been reachable for `TIME`")
}

// load checks the options and applies them to a configuration.
func (o *failoverOptions) load(config *tunnel.LocalConfig) error {
	config.FailoverAfter, config.FailbackAfter = o.after, o.back
	return errors.Join(
		leastDuration("failover-after", o.after, 1, tunnel.DefaultFailoverAfter),
		leastDuration("failback-after", o.back, 1, tunnel.DefaultFailbackAfter),
	)
}

// remote is a remote that is connected to.
type remote struct {
	address tunnel.Address
	trust   *remoteTrust
}

// about returns the connection with the remote that an error is about for the one concerned.
func (c *connection) about(err error) *connection {
	failed, ok := errors.AsType[*tunnel.ConnectError](err)
	if !ok {
		return c
	}
	for i, r := range c.remotes {
		if r.address == failed.Remote {
			return c.to(i)
		}
	}
	return c
}

// to returns the connection with another of the remotes for the one concerned.
func (c *connection) to(i int) *connection {
	chosen := *c
	chosen.remote = c.remotes[i]
	return &chosen
}

// alone returns the configuration for connections to the concerned remote and no other.
func (c *connection) alone() tunnel.LocalConfig {
	config := c.config
	config.Address, config.VerifyRemote, config.Others = c.address, c.trust.verify, nil
	return config
}

// name returns what people are to call the concerned remote where it need not be named.
func (c *connection) name() string {
	if len(c.remotes) > 1 {
		return c.address.String()
	}
	return "the remote"
}

// readyStatus is what the service manager shows of a local that is ready. It is told once, and with
// several remotes the local may be connected to another than the best, then or later.
func (c *connection) readyStatus() string {
	if len(c.remotes) > 1 {
		return "serving"
	}
	return "connected to " + c.address.String()
}

// loadRemotes returns the remotes, with the trust in each. No two of them may have one key.
func (o *connectOptions) loadRemotes(ca *certs.Certificate) ([]remote, error) {
	family, err := o.route.family()
	if err != nil {
		return nil, err
	}
	if err := o.trust.checkSeveral(o.remotes); err != nil {
		return nil, err
	}
	var remotes []remote
	for _, r := range o.remotes {
		trust, err := o.trust.load(r, ca)
		if err != nil {
			return nil, err
		}
		remotes = append(remotes, remote{r.address.Over(family), trust})
	}
	return remotes, shareNoKey(remotes)
}

// checkSeveral refuses several remotes where they can't be told apart.
func (o *trustOptions) checkSeveral(remotes []remoteURL) error {
	if len(remotes) > 1 && o.remoteKey != "" {
		return exit.Usagef("put each remote's key into its URL: "+remotes[0].address.String()+"#KEY",
			"--remote-key is for one remote, and there are %d", len(remotes))
	}
	for i, r := range remotes {
		same := func(other remoteURL) bool { return other.address.Name() == r.address.Name() }
		if slices.ContainsFunc(remotes[:i], same) {
			return exit.Usagef("leave one of them out", "%s is given twice", r.address)
		}
	}
	return nil
}

// shareNoKey lets the remotes know each other, and returns an error if one key would be accepted
// from two of them.
func shareNoKey(remotes []remote) error {
	for i, r := range remotes {
		for j, other := range remotes {
			if i == j {
				continue
			}
			r.trust.others = append(r.trust.others, other.trust)
			for _, key := range r.trust.expected() {
				if other.trust.accepts(key) {
					return sharedKey(exit.Usage, key, r.address.String(), other.address.String())
				}
			}
		}
	}
	return nil
}

// expected returns the keys that the remote is known to have.
func (t *remoteTrust) expected() []certs.PublicKey {
	if t.pins != nil || t.known == nil {
		return t.pins
	}
	for remote := range t.known.All() {
		if t.known.Check(t.name, remote.Key) == nil {
			return []certs.PublicKey{remote.Key}
		}
	}
	return nil
}

// accepts reports whether the remote is known to have a key.
func (t *remoteTrust) accepts(key certs.PublicKey) bool {
	return slices.ContainsFunc(t.expected(), key.Equal)
}

// sharedKey is the error that two remotes have one key. A hello that was sent to one of them can be
// replayed to the other, which doesn't know that it has been used. Both then derive the same keys,
// and encrypt different data under one nonce.
func sharedKey(status int, key certs.PublicKey, a, b string) error {
	return exit.Fail(status, "two remotes have one key",
		fmt.Errorf("%s and %s have %s; a handshake recorded at one can be replayed to the other, "+
			"which gives their traffic away", a, b, key),
		"make a key for each with `culvert keygen`; with --ca, no client has to know the keys")
}

// unknown reports whether the remote is one to ask the user about, who wasn't.
func (t *remoteTrust) unknown() bool {
	return t.known != nil && !t.acceptNew && t.expected() == nil
}
