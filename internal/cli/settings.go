package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/secretfile"
	"culvert/tunnel"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// admissionOptions decide which clients a remote admits.
type admissionOptions struct {
	authorizedKeys    string // file
	allowAnyone       bool
	allowOrigins      []string
	ca                string // file
	requireClientCert bool
	revoked           string // file

	requireForwardSecrecy bool
}

func (o *admissionOptions) define(s *flags.Set) {
	s.Group("admission")
	s.String(&o.authorizedKeys, "authorized-keys", "",
		"admit the clients whose public keys are listed in `FILE`, one per line "+
			"(default: authorized_keys in culvert's configuration folder, if it exists)").Common()
	s.Bool(&o.allowAnyone, "allow-anyone",
		"admit every client: an open proxy for anybody who can reach it").Common()
	s.Strings(&o.allowOrigins, "allow-origin", nil, "with --allow-anyone, also admit web pages of "+
		"`ORIGIN`, such as https://example.org; repeatable")
	s.String(&o.ca, "ca", "", "verify clients' certificates with the CA in `FILE`")
	s.Bool(&o.requireClientCert, "require-client-cert",
		"admit only clients with a certificate of --ca")
	s.String(&o.revoked, "revoked", "",
		"refuse the certificates whose gids are listed in `FILE`, one per line")
	s.Bool(&o.requireForwardSecrecy, "require-forward-secrecy",
		"refuse clients that only support the specified handshake, "+
			"with which a stolen key decrypts recorded traffic")
}

// ruleOptions decide what clients may reach, and what the remote binds for them.
type ruleOptions struct {
	allow, deny, reverse []string
}

func (o *ruleOptions) define(s *flags.Set) {
	s.Group("targets")
	s.Strings(&o.allow, "allow", nil, "allow clients to reach only targets that match `RULE`: "+
		"a host with optional ports, such as *.example.org:443; repeatable").Common().Reloadable()
	s.Strings(&o.deny, "deny", nil, "deny clients targets that match `RULE`, such as "+
		"private, 10.0.0.0/8 or *:25; overrides --allow; repeatable").Reloadable()
	s.Strings(&o.reverse, "reverse", nil, "allow clients' -R to bind addresses that match `RULE`, "+
		"such as localhost:8022, *:8000-8999 or unix:/path; repeatable").Reloadable()
}

// parse parses the rules for targets.
func (o *ruleOptions) parse() (*policy.Rules, error) {
	if _, err := policy.ParseRules(o.allow, nil); err != nil {
		return nil, badRule("allow", ruleForm, "*.example.org:443", err)
	}
	rules, err := policy.ParseRules(o.allow, o.deny)
	if err != nil {
		return nil, badRule("deny", ruleForm, "10.0.0.0/8", err)
	}
	return rules, nil
}

const (
	admitHint = "authorize a client's key: culvert authorize KEY; " +
		"or give --authorized-keys FILE, or --ca FILE with --require-client-cert, or --allow-anyone"
	ruleForm = "a rule is a host, a network or [an IPv6 one], with :PORTS if you like, or unix:/PATH"

	reverseRuleForm = "a rule is an address, localhost or *, with :PORTS if you like, or unix:/PATH"

	ruleHint = "a rule is HOST or HOST:PORTS, such as *.example.org:443, 10.0.0.0/8:22,80-90 " +
		"or [2001:db8::/32], or unix:/path; ports are of TCP and UDP alike"
	reverseRuleHint = "a rule is ADDRESS, localhost or *, each with optional :PORTS, such as " +
		"localhost:8022 or *:8000-8999, or unix:/path; ports are of TCP and UDP alike"
)

// keyOptionHints tell what to write for an option in a line of the authorized keys.
var keyOptionHints = map[string]string{
	"allow":    ruleHint,
	"reverse":  reverseRuleHint,
	"sessions": "sessions=N limits the key's concurrent sessions to N, a number from 1",
	"rate":     rateHint,
	"quota":    quotaHint,
	"streams":  "streams=N limits the key's concurrent streams to N, a number from 1",
}

// remoteSettings are what a reload replaces.
type remoteSettings struct {
	identity tunnel.RemoteIdentity
	trust    tunnel.RemoteTrust
	rights   policy.Rights
	tls      *tls.Certificate // nil without TLS
}

// hasQuotas reports whether the quota of any client is limited.
func (s *remoteSettings) hasQuotas() bool {
	if s.rights.Share.Quota > 0 {
		return true
	}
	for entry := range s.trust.Authorized.All() {
		if entry.Quota != "" {
			return true
		}
	}
	return false
}

// loadSettings reads the files that the options name, and parses the rules.
func (o *remoteOptions) loadSettings() (s remoteSettings, err error) {
	if s.trust, err = o.loadTrust(); err != nil {
		return s, err
	}
	if s.identity.Key, s.identity.Cert, err = o.identity.load(certs.UseServer); err != nil {
		return s, err
	}
	if s.rights.Rules, err = o.rules.parse(); err != nil {
		return s, err
	}
	if s.rights.Reverse, err = policy.ParseReverseRules(o.rules.reverse); err != nil {
		return s, badRule("reverse", reverseRuleForm, "localhost:8022", err)
	}
	if s.rights.Share, err = o.share.parse(); err != nil {
		return s, err
	}
	s.tls, err = loadServerCertificate(o.listen.tlsCert, o.listen.tlsKey)
	return s, err
}

// reload replaces the settings of a running remote, all of them or none. Files are read again; of
// the flags only the reloadable ones change. It makes no key pair, which nobody would know.
func (o *remoteOptions) reload(served *servedRemote) error {
	now := &remoteOptions{}
	if err := o.source.Decode(now.define); err != nil {
		return err
	}
	if err := now.identity.require(); err != nil {
		return err
	}
	s, err := now.loadSettings()
	if err != nil {
		return o.source.Explain(err)
	}
	if s.hasQuotas() && served.ledgerFailure != nil {
		return served.ledgerFailure
	}
	if err := served.node.Reload(s.identity, s.trust, s.rights); err != nil {
		return o.settingsFailure(err)
	}
	key := s.identity.Key.Public()
	if file, err := o.share.ledgerFile(key); err == nil { // as at the start
		served.ledger.Move(file)
	}
	served.observed.showKey(key)
	served.shown.current.Store(s.tls)
	s.warn(served.log)
	return nil
}

// warn logs that everybody or nobody is admitted, or that clients will refuse this remote.
func (s *remoteSettings) warn(log zerolog.Logger) {
	if err := checkUnexpired(s.identity.Cert); err != nil {
		log.Warn().Err(err).Msg("clients with --ca refuse this remote")
	}
	switch trust := s.trust; {
	case trust.Authorized != nil && trust.Authorized.Len() == 0:
		log.Warn().Msg("nobody is admitted: the list of authorized keys is empty")
	case trust.Anyone:
		log.Warn().Msg("everybody is admitted: whoever reaches this remote can use it as a proxy")
	}
}

// settingsFailure explains why a remote refuses its settings.
func (o *remoteOptions) settingsFailure(err error) error {
	var line *policy.KeyLineError
	switch {
	case errors.As(err, &line):
		return exit.Fail(exit.Failed, "can't use the authorized keys",
			fmt.Errorf("%s: %w", o.admission.authorizedKeys, err), keyOptionHints[line.Option])
	case errors.Is(err, tunnel.ErrNobodyAdmitted):
		return exit.Usagef(admitHint, "%v", err)
	}
	return exit.Usagef("", "%v", err)
}

// applyDefault names the file that authorize writes, if there is one and nothing else decides whom
// to admit.
func (o *admissionOptions) applyDefault() {
	if o.authorizedKeys != "" || o.allowAnyone || o.requireClientCert {
		return
	}
	if path, err := configFile("authorized_keys"); err == nil {
		if _, err := os.Stat(path); err == nil {
			o.authorizedKeys = path
		}
	}
}

// check refuses contradictions of the options, which are from source. The remote has a certificate
// of its own if certified is true.
func (o *admissionOptions) check(certified bool, source *flags.Source) error {
	switch {
	case o.allowAnyone && (o.authorizedKeys != "" || o.requireClientCert):
		other := "authorized-keys"
		if o.authorizedKeys == "" {
			other = "require-client-cert"
		}
		return exit.Usagef("leave one of them out", "%s contradicts %s",
			source.Spelled("allow-anyone"), source.Spelled(other))
	case len(o.allowOrigins) > 0 && !o.allowAnyone:
		return exit.Usagef("leave it out: pages have no keys of their own that could be admitted",
			"--allow-origin does nothing without --allow-anyone")
	case o.requireClientCert && o.ca == "":
		return exit.Usagef("give the CA's certificate with --ca FILE",
			"--require-client-cert needs --ca")
	case !o.requireClientCert && (o.ca != "" || o.revoked != ""):
		return exit.Usagef("add --require-client-cert, or leave them out",
			"--ca and --revoked do nothing without --require-client-cert")
	case o.requireClientCert && !certified:
		return exit.Usagef("give the remote's own certificate with --cert FILE",
			"--require-client-cert needs --cert: only version 2 of the handshake asks for "+
				"certificates, and the remote presents one too")
	}
	return nil
}

// loadTrust reads who is admitted.
func (o *remoteOptions) loadTrust() (trust tunnel.RemoteTrust, err error) {
	a := &o.admission
	a.applyDefault()
	if err := a.check(o.identity.cert != "", o.source); err != nil {
		return trust, err
	}
	trust.RequireCert, trust.Anyone = a.requireClientCert, a.allowAnyone
	for _, text := range a.allowOrigins {
		origin, err := tunnel.ParseOrigin(text)
		if err != nil {
			return trust, &flags.ValueError{
				Flag: "allow-origin", Value: text, Why: err.Error(), Example: "https://example.org",
			}
		}
		trust.Origins = append(trust.Origins, origin)
	}
	if trust.CA, err = loadCA("ca", a.ca); err != nil {
		return trust, err
	}
	if a.authorizedKeys != "" {
		trust.Authorized, err = readList(a.authorizedKeys, certs.ParseAuthorizedKeys)
		if err != nil {
			return trust, exit.Fail(exit.Failed, "can't use the authorized keys", err,
				secretfile.Hint(err, a.authorizedKeys))
		}
	}
	if a.revoked != "" {
		trust.Revoked, err = readList(a.revoked, certs.ParseRevocations)
		if err != nil {
			return trust, exit.Fail(exit.Failed,
				"can't use the list of revoked certificates", err, secretfile.Hint(err, a.revoked))
		}
	}
	if trust.Authorized == nil && !trust.RequireCert && !trust.Anyone {
		return trust, exit.Usagef(admitHint, "%v", tunnel.ErrNobodyAdmitted)
	}
	return trust, nil
}
