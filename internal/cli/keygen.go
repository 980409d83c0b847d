package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
)

type keygenOptions struct{ out string }

func keygenCommand() *flags.Command {
	o := &keygenOptions{}
	return &flags.Command{
		Name:  "keygen",
		Usage: "print the public key of a key pair, which is created if there is none",
		Examples: []string{
			"culvert keygen",
			"culvert keygen -o laptop.json",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *keygenOptions) define(s *flags.Set) {
	s.String(&o.out, "out,o", "", "the `FILE` of the key pair, which is kept if it exists "+
		"(default: identity.json in culvert's configuration folder)")
}

func (o *keygenOptions) run(context.Context) error {
	path := o.out
	if path == "" {
		var err error
		if path, err = configFile("identity.json"); err != nil {
			return err
		}
	}
	key, created, err := certs.LoadOrCreateKeyPair(path)
	if err != nil {
		return keyFailure(path, err)
	}
	if created {
		fmt.Fprintf(os.Stderr, "culvert: created %s\n", shortPath(path))
	} else {
		fmt.Fprintf(os.Stderr, "culvert: kept %s, which exists: this is its public key\n",
			shortPath(path))
	}
	_, err = fmt.Println(key.Public())
	return cannotWrite(err)
}

// shortPath returns a path for people: with ~ for the user's home.
func shortPath(path string) string {
	home, err := os.UserHomeDir()
	if err != nil || home == "" {
		return path
	}
	if below, ok := strings.CutPrefix(path, home+string(filepath.Separator)); ok {
		return filepath.Join("~", below)
	}
	return path
}

// writeFailure explains why a new file can't be written.
func writeFailure(what, path string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrExist) {
		err, hint = fmt.Errorf("%s exists", path), "name another file"
	}
	return exit.Fail(exit.Failed, "can't write the "+what, err, hint)
}
