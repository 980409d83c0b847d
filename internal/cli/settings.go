package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	"culvert/certs"
	"culvert/tunnel"
	"culvert/tunnel/policy"

	"github.com/urfave/cli/v2"
)

const admitHint = "give --authorized-keys FILE, or --ca FILE with --require-client-cert, or --allow-anyone"

// remoteSettings are what SIGHUP has a remote read again.
type remoteSettings struct {
	identity tunnel.RemoteIdentity
	trust    tunnel.RemoteTrust
	rules    *policy.Rules
	reverse  *policy.ReverseRules
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
	var line *policy.KeyLineError
	switch {
	case errors.As(err, &line):
		hint := ruleHint
		if line.Option == "reverse" {
			hint = reverseRuleHint
		}
		return &Failure{exitFailed, "can't use the authorized keys", fmt.Errorf("%s: %w", c.String("authorized-keys"), err), hint}
	case errors.Is(err, tunnel.ErrNobodyAdmitted):
		return usage(admitHint, "%v", err)
	}
	return usage("", "%v", err)
}

const ruleHint = "a rule is HOST or HOST:PORTS, such as *.example.org:443, 10.0.0.0/8:22,80-90 or [2001:db8::/32], or unix:/path; ports are of TCP and UDP alike"

// loadRules reads which targets clients may reach.
func loadRules(c *cli.Context) (*policy.Rules, error) {
	allow, err := currentList(c, "allow")
	if err != nil {
		return nil, err
	}
	deny, err := currentList(c, "deny")
	if err != nil {
		return nil, err
	}
	rules, err := policy.ParseRules(allow, deny)
	if err != nil {
		return nil, usage(ruleHint, "%v", err)
	}
	return rules, nil
}

const reverseRuleHint = "a rule is ADDRESS, localhost or *, each with :PORTS if you like, such as localhost:8022 or *:8000-8999, or unix:/path; ports are of TCP and UDP alike"

// loadReverseRules reads what clients may have the remote listen on.
func loadReverseRules(c *cli.Context) (*policy.ReverseRules, error) {
	texts, err := currentList(c, "reverse")
	if err != nil {
		return nil, err
	}
	rules, err := policy.ParseReverseRules(texts)
	if err != nil {
		return nil, usage(reverseRuleHint, "%v", err)
	}
	return rules, nil
}

// loadIdentity reads what the remote shows.
func loadIdentity(c *cli.Context) (tunnel.RemoteIdentity, error) {
	cert, err := loadCertificate(c, "cert")
	if err != nil {
		return tunnel.RemoteIdentity{}, err
	}
	key, err := loadKey(c)
	if err != nil {
		return tunnel.RemoteIdentity{}, err
	}
	return tunnel.RemoteIdentity{Key: key, Cert: cert}, checkCertified(cert, key)
}

// loadTrust reads who is admitted.
func loadTrust(c *cli.Context) (tunnel.RemoteTrust, error) {
	trust := tunnel.RemoteTrust{RequireCert: c.Bool("require-client-cert"), Anyone: c.Bool("allow-anyone")}
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
