package cli

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"culvert/certs"

	"github.com/urfave/cli/v2"
)

func certCommand() *cli.Command {
	out := func(what string) cli.Flag {
		return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, EnvVars: env("out"), Usage: "write " + what + " to `FILE`, which must not exist"}
	}
	days := func(n int) cli.Flag {
		return &cli.IntFlag{Name: "days", EnvVars: env("days"), Value: n, Usage: "valid for `N` days"}
	}
	return &cli.Command{
		Name:  "cert",
		Usage: "make and examine NaCl certificates",
		Subcommands: []*cli.Command{
			{
				Name: "ca", Usage: "make a CA: its secret key and its certificate", ArgsUsage: "--name NAME --out FILE --cert-out FILE",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", EnvVars: env("name"), Usage: "the CA's `NAME`"},
					days(3650),
					out("the CA with its secret key"),
					&cli.StringFlag{Name: "cert-out", EnvVars: env("cert-out"), Usage: "write the CA's certificate, for --ca, to `FILE`, which must not exist"},
				},
				Action: runCertCA,
			},
			{
				Name: "issue", Usage: "issue a certificate for a public key", ArgsUsage: "--ca-key FILE --public-key KEY --out FILE",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "ca-key", EnvVars: env("ca-key"), Usage: "the CA with its secret key in `FILE`"},
					&cli.StringFlag{Name: "public-key", EnvVars: env("public-key"), Usage: "the `KEY` to certify, as keygen prints it"},
					&cli.StringSliceFlag{Name: "name", EnvVars: env("name"), Usage: "`HOST` that the key's owner is reached by; repeatable"},
					&cli.StringSliceFlag{Name: "ip", EnvVars: env("ip"), Usage: "`ADDRESS` of the key's owner; repeatable"},
					days(365),
					out("the certificate"),
				},
				Action: runCertIssue,
			},
			{
				Name: "show", Usage: "print what a certificate says; it is not verified", ArgsUsage: "CERTIFICATE",
				Action: runCertShow,
			},
			{
				Name: "verify", Usage: "verify a certificate", ArgsUsage: "--ca FILE CERTIFICATE",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "ca", EnvVars: env("ca"), Usage: "the CA's certificate in `FILE`"},
					&cli.StringFlag{Name: "host", EnvVars: env("host"), Usage: "the certificate must be for `HOST`"},
					&cli.StringFlag{Name: "ip", EnvVars: env("ip"), Usage: "the certificate must be for `ADDRESS`"},
					&cli.StringFlag{Name: "revoked", EnvVars: env("revoked"), Usage: "`FILE` with the gids of revoked certificates"},
				},
				Action: runCertVerify,
			},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unknownCommand(c.Command.HelpName, c.Args().First(), c.Command.Subcommands)
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// expiry is the moment --days from now, in the milliseconds that certificates have.
func expiry(c *cli.Context, now time.Time) (time.Time, error) {
	days := c.Int("days")
	if days < 1 || days > 36500 {
		return time.Time{}, usage("give a number from 1 to 36500", "--days is out of range")
	}
	return now.Add(time.Duration(days) * 24 * time.Hour).Truncate(time.Millisecond), nil
}

func runCertCA(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := requireFlags(c, "name", "out", "cert-out"); err != nil {
		return err
	}
	now := time.Now()
	expires, err := expiry(c, now)
	if err != nil {
		return err
	}
	for _, path := range []string{c.String("out"), c.String("cert-out")} {
		if _, err := os.Lstat(path); err == nil {
			return writeFailure("CA", path, os.ErrExist)
		}
	}
	ca, err := certs.NewCA(rand.Reader, c.String("name"), now, expires)
	if err != nil {
		return &Failure{exitFailed, "can't make a CA", err, ""}
	}
	if err := ca.WriteFile(c.String("out")); err != nil {
		return writeFailure("CA", c.String("out"), err)
	}
	if err := ca.Certificate().WriteFile(c.String("cert-out")); err != nil {
		return writeFailure("certificate", c.String("cert-out"), err)
	}
	return nil
}

func runCertIssue(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := requireFlags(c, "ca-key", "public-key", "out"); err != nil {
		return err
	}
	now := time.Now()
	expires, err := expiry(c, now)
	if err != nil {
		return err
	}
	key, err := certs.ParsePublicKey(c.String("public-key"))
	if err != nil {
		return usage("it is 43 characters, as `culvert keygen` prints it", "bad --public-key: %v", err)
	}
	for _, text := range c.StringSlice("ip") {
		if _, err := parseIP(text); err != nil {
			return err
		}
	}
	ca, err := certs.ReadCA(c.String("ca-key"))
	if err != nil {
		return &Failure{exitFailed, "can't use the CA's file", err, "it is what `culvert cert ca --out` has written, not the certificate"}
	}
	cert, err := ca.Issue(rand.Reader, now, certs.Request{
		PublicKey: key,
		Names:     c.StringSlice("name"),
		IPs:       c.StringSlice("ip"),
		Expires:   expires,
	})
	if err != nil {
		return &Failure{exitFailed, "can't issue the certificate", plainRefusal(err), ""}
	}
	if err := cert.WriteFile(c.String("out")); err != nil {
		return writeFailure("certificate", c.String("out"), err)
	}
	return nil
}

func parseIP(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, usage("such as 192.0.2.1 or 2001:db8::1", "bad --ip %q", text)
	}
	return addr, nil
}

// readCertificateArgument reads the certificate that the command's argument names.
func readCertificateArgument(c *cli.Context) (*certs.Certificate, error) {
	path, err := oneArgument(c, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := certs.ReadCertificate(path)
	if err != nil {
		return nil, &Failure{exitFailed, "can't use the certificate", err, ""}
	}
	return cert, nil
}

func runCertShow(c *cli.Context) error {
	cert, err := readCertificateArgument(c)
	if err != nil {
		return err
	}
	w := c.App.Writer
	fmt.Fprintf(w, "type     %s\nca       %q\ngid      %q\nsigned   %s\nexpires  %s\n", cert.Type(), cert.CA(), cert.GID(),
		cert.SignedAt().UTC().Format(time.RFC3339), cert.Expires().UTC().Format(time.RFC3339))
	if key, ok := cert.BoxKey(); ok {
		fmt.Fprintf(w, "key      %s\n", key)
	}
	printList(w, "names", cert.Names())
	printList(w, "ips", cert.IPs())
	return nil
}

// printList prints values quoted: a certificate's names may hold anything, also what a terminal obeys.
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

func runCertVerify(c *cli.Context) error {
	if err := requireFlags(c, "ca"); err != nil {
		return err
	}
	var addr netip.Addr
	if text := c.String("ip"); text != "" {
		var err error
		if addr, err = parseIP(text); err != nil {
			return err
		}
	}
	cert, err := readCertificateArgument(c)
	if err != nil {
		return err
	}
	opts := certs.VerifyOptions{Now: time.Now()}
	if opts.CA, err = loadCertificate(c, "ca"); err != nil {
		return err
	}
	if path := c.String("revoked"); path != "" {
		if opts.Revoked, err = readList(path, certs.ParseRevocations); err != nil {
			return &Failure{exitFailed, "can't use the list of revoked certificates", err, ""}
		}
	}
	err = cert.Verify(opts)
	if host := c.String("host"); err == nil && host != "" {
		err = cert.VerifyHost(host)
	}
	if err == nil && addr.IsValid() {
		err = cert.VerifyAddr(addr)
	}
	if err != nil {
		return &Failure{exitFailed, "the certificate does not verify", plainRefusal(err), ""}
	}
	fmt.Fprintln(c.App.Writer, "ok")
	return nil
}

// readList opens a file and parses it.
func readList[T any](path string, parse func(io.Reader) (*T, error)) (*T, error) {
	f, err := os.Open(path)
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
