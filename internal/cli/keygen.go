package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
)

type keygenOptions struct{ out string }

func keygenCommand() *flags.Command {
	o := &keygenOptions{}
	return &flags.Command{
		Name:   "keygen",
		Usage:  "create a key pair and print its public key",
		Define: o.define,
		Run:    o.run,
	}
}

func (o *keygenOptions) define(s *flags.Set) {
	s.String(&o.out, "out,o", "", "write to `FILE`, which must not exist "+
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
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		return exit.Fail(exit.Failed, "can't create a key pair", err, "")
	}
	if err := key.WriteFile(path); err != nil {
		return writeFailure("key pair", path, err)
	}
	fmt.Println(key.Public())
	return nil
}

// writeFailure explains why a new file can't be written.
func writeFailure(what, path string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrExist) {
		err, hint = fmt.Errorf("%s exists", path), "name another file, or move that one away"
	}
	return exit.Fail(exit.Failed, "can't write the "+what, err, hint)
}
