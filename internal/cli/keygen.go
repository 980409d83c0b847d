package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"culvert/certs"

	"github.com/urfave/cli/v2"
)

func keygenCommand() *cli.Command {
	return &cli.Command{
		Name:  "keygen",
		Usage: "make a key pair and print its public key",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, EnvVars: env("out"),
				Usage: "write to `FILE` (default: identity.json in culvert's configuration folder); a file that exists is kept"},
		},
		Action: runKeygen,
	}
}

func runKeygen(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path := c.String("out")
	if path == "" {
		var err error
		if path, err = configFile("identity.json"); err != nil {
			return err
		}
	}
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		return &Failure{exitFailed, "can't make a key pair", err, ""}
	}
	if err := key.WriteFile(path); err != nil {
		return writeFailure("key pair", path, err)
	}
	fmt.Fprintln(c.App.Writer, key.Public())
	return nil
}

func writeFailure(what, path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return &Failure{exitFailed, "can't write the " + what, fmt.Errorf("%s exists", path), "name another file, or move that one away"}
	}
	return &Failure{exitFailed, "can't write the " + what, err, ""}
}
