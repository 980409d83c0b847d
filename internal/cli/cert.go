package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/printable"
	"culvert/internal/secretfile"
)

var (
	certCAExamples = []string{
		"culvert cert ca --name Example --out ca.json --cert-out ca.cert",
		"culvert cert ca --name Example --days 365 --out ca.json --cert-out ca.cert",
	}
	certIssueExamples = []string{
		"culvert cert issue --ca-key ca.json --public-key KEY --use server \\\n" +
			"      --name exit.example.org --out exit.cert",
		"culvert cert issue --ca-key ca.json --public-key KEY --use client -o a.cert",
	}
	certShowExamples = []string{
		"culvert cert show exit.cert",
		"culvert cert show laptop.cert",
	}
	certVerifyExamples = []string{
		"culvert cert verify --ca ca.cert --host exit.example.org exit.cert",
		"culvert cert verify --ca ca.cert --use client laptop.cert",
	}
)

func certCommand() *flags.Command {
	ca, issue, show, verify :=
		&certCAOptions{}, &certIssueOptions{}, &certShowOptions{}, &certVerifyOptions{}
	return &flags.Command{
		Name:     "cert",
		Usage:    "make and examine NaCl certificates",
		Examples: []string{certCAExamples[0], certShowExamples[0]},
		Commands: []*flags.Command{
			{Name: "ca", Usage: "create a CA: its secret key and its certificate",
				Examples: certCAExamples, Define: ca.define, Run: ca.run},
			{Name: "issue", Usage: "issue a certificate for a public key",
				Examples: certIssueExamples, Define: issue.define, Run: issue.run},
			{Name: "show", Usage: "print a certificate without verifying it",
				Examples: certShowExamples, Define: show.define, Run: show.run},
			{Name: "verify", Usage: "verify a certificate",
				Examples: certVerifyExamples, Define: verify.define, Run: verify.run},
		},
	}
}

// validityOptions limit how long a certificate is valid.
type validityOptions struct {
	days  int
	given bool
}

func (o *validityOptions) define(s *flags.Set, days int, more string) {
	s.Int(&o.days, "days", days, "expire after `N` days"+more).Given(&o.given)
}

// expiry returns when a certificate of now expires, in the milliseconds that certificates have.
func (o *validityOptions) expiry(now time.Time) (time.Time, error) {
	if o.days < 1 || o.days > 36500 {
		return time.Time{}, &flags.ValueError{
			Flag: "days", Value: strconv.Itoa(o.days), Why: "it must be 1 to 36500", Example: "365",
		}
	}
	return now.Add(time.Duration(o.days) * 24 * time.Hour).Truncate(time.Millisecond), nil
}

type certCAOptions struct {
	name     string
	validity validityOptions
	out      string
	certOut  string
}

func (o *certCAOptions) define(s *flags.Set) {
	s.FromCommandLine(func() { // what else gives a name, gives a node's
		s.String(&o.name, "name", "", "the CA's `NAME`").Required()
	})
	o.validity.define(s, 3650, "")
	s.String(&o.out, "out,o", "",
		"write the CA with its secret key to `FILE`, which must not exist").Required()
	s.String(&o.certOut, "cert-out", "",
		"write the CA's certificate, for --ca, to `FILE`, which must not exist").Required()
}

func (o *certCAOptions) run(context.Context) error {
	now := time.Now()
	expires, err := o.validity.expiry(now)
	if err != nil {
		return err
	}
	for _, path := range []string{o.out, o.certOut} {
		if _, err := os.Lstat(path); err == nil {
			return writeFailure("CA", path, os.ErrExist)
		}
	}
	ca, err := certs.NewCA(rand.Reader, o.name, now, expires)
	if err != nil {
		return exit.Fail(exit.Failed, "can't create a CA", err, "")
	}
	if err := ca.WriteFiles(o.out, o.certOut); err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok && failed.Path == o.certOut {
			return writeFailure("certificate", o.certOut, err)
		}
		return writeFailure("CA", o.out, err)
	}
	return nil
}

type certIssueOptions struct {
	caKey     string
	publicKey string
	names     []string
	ips       []string
	use       string
	validity  validityOptions
	out       string
}

func (o *certIssueOptions) define(s *flags.Set) {
	s.String(&o.caKey, "ca-key", "", "read the CA with its secret key from `FILE`").Required()
	s.String(&o.publicKey, "public-key", "",
		"certify the public `KEY`, as keygen prints it").Required()
	s.FromCommandLine(func() { // whom to certify; what else gives a name, gives a node's
		s.Strings(&o.names, "name", nil, "certify the host name `HOST`; repeatable")
		s.Strings(&o.ips, "ip", nil, "certify the IP `ADDRESS`; repeatable")
		defineUse(s, &o.use, "issue a certificate that only a `USE`, server or client, may present "+
			"(default: either)")
	})
	o.validity.define(s, 365, "; by default not after the CA")
	s.String(&o.out, "out,o", "",
		"write the certificate to `FILE`, which must not exist").Required()
}

// defineUse defines the flag that names the end of a connection.
func defineUse(s *flags.Set, use *string, usage string) {
	s.String(use, "use", "", usage).Values(string(certs.UseServer), string(certs.UseClient))
}

func parseUse(text string) (certs.Use, error) {
	use := certs.Use(text)
	switch use {
	case certs.UseAny, certs.UseServer, certs.UseClient:
		return use, nil
	}
	return use, &flags.ValueError{
		Flag: "use", Value: text, Why: "it is server or client", Example: "server",
	}
}

func (o *certIssueOptions) run(context.Context) error {
	now := time.Now()
	expires, err := o.validity.expiry(now)
	if err != nil {
		return err
	}
	key, err := certs.ParsePublicKey(o.publicKey)
	if err != nil {
		return badKey("public-key", o.publicKey, err)
	}
	for _, text := range o.ips {
		if _, err := parseIP(text); err != nil {
			return err
		}
	}
	use, err := parseUse(o.use)
	if err != nil {
		return err
	}
	ca, err := certs.ReadCA(o.caKey)
	if err != nil {
		hint := "it is the file that `culvert cert ca --out` wrote, not the certificate"
		if access := secretfile.Hint(err, o.caKey); access != "" {
			hint += "; " + access
		}
		return exit.Fail(exit.Failed, "can't use the CA's file", err, hint)
	}
	last := ca.Certificate().Expires()
	if !o.validity.given && last.Before(expires) {
		expires = last
	}
	cert, err := ca.Issue(rand.Reader, now, certs.Request{
		PublicKey: key,
		Names:     o.names,
		IPs:       o.ips,
		Use:       use,
		Expires:   expires,
	})
	if err != nil {
		hint := ""
		if bad, ok := errors.AsType[*certs.VerifyError](err); ok && bad.Reason == certs.ReasonOutlivesCA {
			hint = "the CA expires at " + last.UTC().Format(time.RFC3339) + ": give fewer --days"
		}
		return exit.Fail(exit.Failed, "can't issue the certificate", plainRefusal(err), hint)
	}
	if err := cert.WriteFile(o.out); err != nil {
		return writeFailure("certificate", o.out, err)
	}
	o.warn(os.Stderr, use)
	return nil
}

// warn prints what is likely to be a mistake in a certificate that was issued.
func (o *certIssueOptions) warn(w io.Writer, use certs.Use) {
	for _, name := range o.names {
		if problem := certs.ReferenceProblem(name); problem != "" {
			fmt.Fprintf(w, "culvert: warning: --name %q breaks clients of the reference: %s\n"+
				"a name also stands for the hosts below it: write example.org, not *.example.org\n",
				name, problem)
		}
	}
	if use == certs.UseServer && len(o.names)+len(o.ips) == 0 {
		fmt.Fprintln(w, "culvert: warning: no client accepts a server's certificate without "+
			"--name and --ip\ngive the host in the URL that clients connect to")
	}
}

func parseIP(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, &flags.ValueError{
			Flag: "ip", Value: text, Why: "not an IP address", Example: "192.0.2.1",
		}
	}
	return addr, nil
}

// certificateArgument is the file of a certificate as an argument.
type certificateArgument struct{ path string }

func (a *certificateArgument) define(s *flags.Set) {
	s.Argument("CERTIFICATE", func(text string) error {
		a.path = text
		return nil
	})
}

func (a *certificateArgument) load() (*certs.Certificate, error) {
	cert, err := certs.ReadCertificate(a.path)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "can't use the certificate", err, "")
	}
	return cert, nil
}

type certShowOptions struct{ certificate certificateArgument }

func (o *certShowOptions) define(s *flags.Set) { o.certificate.define(s) }

func (o *certShowOptions) run(context.Context) error {
	cert, err := o.certificate.load()
	if err != nil {
		return err
	}
	w := &bytes.Buffer{}
	fmt.Fprintf(w, "type     %s\nca       %q\ngid      %q\nsigned   %s\nexpires  %s\n",
		printable.Line(string(cert.Type())), cert.CA(), cert.GID(),
		cert.SignedAt().UTC().Format(time.RFC3339), cert.Expires().UTC().Format(time.RFC3339))
	if key, ok := cert.BoxKey(); ok {
		fmt.Fprintf(w, "key      %s\n", key)
	}
	if use := cert.Use(); use != certs.UseAny {
		fmt.Fprintf(w, "use      %q\n", use)
	}
	printList(w, "names", cert.Names())
	printList(w, "ips", cert.IPs())
	_, err = w.WriteTo(os.Stdout)
	return cannotWrite(err)
}

// printList prints values in quotes: a certificate's names may hold anything, even control
// sequences of a terminal.
func printList(w io.Writer, title string, values []string) {
	if len(values) > 0 {
		fmt.Fprintf(w, "%-8s %s\n", title, strings.Join(quoteAll(values), " "))
	}
}

func quoteAll(values []string) []string {
	var quoted []string
	for _, v := range values {
		quoted = append(quoted, fmt.Sprintf("%q", v))
	}
	return quoted
}

type certVerifyOptions struct {
	ca          string
	host        string
	ip          string
	use         string
	revoked     string
	certificate certificateArgument
}

func (o *certVerifyOptions) define(s *flags.Set) {
	s.String(&o.ca, "ca", "", "read the CA's certificate from `FILE`").Required()
	s.FromCommandLine(func() { // what else gives a host, gives the header of connections
		s.String(&o.host, "host", "", "require a certificate for the host name `HOST`")
		s.String(&o.ip, "ip", "", "require a certificate for the IP `ADDRESS`")
		defineUse(s, &o.use, "require a certificate that a `USE`, server or client, may present")
	})
	s.String(&o.revoked, "revoked", "",
		"refuse the certificates whose gids are listed in `FILE`, one per line")
	o.certificate.define(s)
}

func (o *certVerifyOptions) run(context.Context) error {
	var addr netip.Addr
	if o.ip != "" {
		var err error
		if addr, err = parseIP(o.ip); err != nil {
			return err
		}
	}
	use, err := parseUse(o.use)
	if err != nil {
		return err
	}
	cert, err := o.certificate.load()
	if err != nil {
		return err
	}
	opts := certs.VerifyOptions{Now: time.Now()}
	if opts.CA, err = loadCA("ca", o.ca); err != nil {
		return err
	}
	if o.revoked != "" {
		if opts.Revoked, err = readList(o.revoked, certs.ParseRevocations); err != nil {
			return exit.Fail(exit.Failed, "can't use the list of revoked certificates", err,
				secretfile.Hint(err, o.revoked))
		}
	}
	err = cert.Verify(opts)
	if err == nil && use != certs.UseAny {
		err = cert.VerifyUse(use)
	}
	if err == nil && o.host != "" {
		err = cert.VerifyHost(o.host)
	}
	if err == nil && addr.IsValid() {
		err = cert.VerifyAddr(addr)
	}
	if err != nil {
		return exit.Fail(exit.Failed, "the certificate does not verify", plainRefusal(err), "")
	}
	_, err = fmt.Println("ok")
	return cannotWrite(err)
}

// readList parses a file that decides whom to trust.
func readList[T any](path string, parse func(io.Reader) (*T, error)) (*T, error) {
	f, err := secretfile.OpenTrusted(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
