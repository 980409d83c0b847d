package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/secretfile"
	"culvert/internal/shellquote"
	"culvert/tunnel/policy"
)

type authorizeOptions struct {
	key    certs.PublicKey
	name   string
	file   string // "" for the default one
	allow  []string
	remove bool
}

func authorizeCommand() *flags.Command {
	o := &authorizeOptions{}
	return &flags.Command{
		Name:  "authorize",
		Usage: "let a client's key use the remote, or no longer",
		Examples: []string{
			"culvert authorize AYdV9KFSUZjppL8krv9qKiUwVRZ9NiYmYbTznONuLz0 laptop",
			"culvert authorize --remove AYdV9KFSUZjppL8krv9qKiUwVRZ9NiYmYbTznONuLz0",
		},
		Define: o.define,
		Run:    o.run,
	}
}

func (o *authorizeOptions) define(s *flags.Set) {
	s.Argument("KEY", func(text string) (err error) {
		o.key, err = certs.ParsePublicKey(text)
		return err
	}).Dashed(func(word string) bool { // one key in 64 begins so
		_, err := certs.ParsePublicKey(word)
		return err == nil
	})
	s.Argument("NAME", func(text string) error {
		o.name = text
		if err := certs.CheckKeyName(text); err != nil {
			return fmt.Errorf("bad name %q: %w", text, err)
		}
		return nil
	}).Optional()
	s.String(&o.file, "authorized-keys", "", "edit the list of keys in `FILE` "+
		"(default: authorized_keys in culvert's configuration folder)")
	s.FromCommandLine(func() { // what else gives rules, gives those of a remote
		s.Strings(&o.allow, "allow", nil,
			"allow the key to reach only targets that match `RULE`; repeatable")
		s.Bool(&o.remove, "remove", "remove the key's line")
	})
}

func (o *authorizeOptions) run(context.Context) error {
	for _, rule := range o.allow {
		if strings.ContainsFunc(rule, unicode.IsSpace) {
			return badRule("allow", ruleForm, "*.example.org:443",
				&policy.RuleError{Rule: rule, Why: "it has white space"})
		}
		if _, err := policy.ParseRules([]string{rule}, nil); err != nil {
			return badRule("allow", ruleForm, "*.example.org:443", err)
		}
	}
	if o.remove && (o.name != "" || len(o.allow) > 0) {
		return exit.Usagef("leave them out", "--remove takes neither a name nor --allow")
	}
	path := o.file
	if path == "" {
		var err error
		if path, err = configFile("authorized_keys"); err != nil {
			return err
		}
	}
	done, err := "removed", error(nil)
	if o.remove {
		err = certs.Deauthorize(path, o.key)
	} else {
		var added bool
		entry := certs.AuthorizedKey{Key: o.key, Allow: o.allow, Comment: o.name}
		added, err = certs.Authorize(path, entry)
		if done = "added"; !added {
			done = "nothing to do, the key is listed"
		}
	}
	if err != nil {
		return o.failure(path, err)
	}
	fmt.Fprintf(os.Stderr, "culvert: %s: %s\n", shortPath(path), done)
	return nil
}

// failure explains why the file is not changed.
func (o *authorizeOptions) failure(path string, err error) error {
	hint := secretfile.Hint(err, path)
	_, listed := errors.AsType[*certs.ListedError](err)
	switch {
	case listed:
		hint = "edit that line, or remove it first: culvert authorize --remove "
		if o.file != "" {
			hint += "--authorized-keys " + shellquote.Quote(o.file) + " "
		}
		hint += o.key.String()
	case errors.Is(err, certs.ErrNotListed), errors.Is(err, fs.ErrNotExist):
		hint = "name the file with --authorized-keys FILE"
	}
	return exit.Fail(exit.Failed, "can't change the authorized keys", err, hint)
}
