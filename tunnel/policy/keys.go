package policy

import (
	"fmt"
	"strings"

	"culvert/certs"
)

// Rights are what a remote grants to a client.
type Rights struct {
	Rules   *Rules        // about its targets; nil forbids only special addresses
	Reverse *ReverseRules // what it may bind; nil for nothing
	Share   Share
}

// KeyLineError is the error for a line of the authorized keys with an option that can't be used.
type KeyLineError struct {
	Line   int    // from 1
	Option string // such as "allow"
	Err    error
}

func (e *KeyLineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *KeyLineError) Unwrap() error { return e.Err }

// ForKeys returns the rights of all keys, where r are those of a key whose line has no options.
// What r forbids as a target stays forbidden; other options replace what r grants. Nil keys are
// none. An error is a *KeyLineError.
func (r Rights) ForKeys(keys *certs.AuthorizedKeys) (map[certs.PublicKey]Rights, error) {
	rights := make(map[certs.PublicKey]Rights, keys.Len())
	for entry := range keys.All() {
		granted, option, err := r.forKey(entry)
		if err != nil {
			return nil, &KeyLineError{entry.Line, option, err}
		}
		rights[entry.Key] = granted
	}
	return rights, nil
}

// forKey returns the rights of the key of a line, or which of its options can't be used, and why.
func (r Rights) forKey(entry *certs.AuthorizedKey) (rights Rights, option string, err error) {
	if entry.Allow != nil {
		allow, err := parseRules([]string{strings.Join(entry.Allow, ",")})
		if err != nil {
			return r, "allow", err
		}
		r.Rules = r.Rules.narrow(allow)
	}
	if entry.Reverse != nil {
		if r.Reverse, err = ParseReverseRules([]string{strings.Join(entry.Reverse, ",")}); err != nil {
			return r, "reverse", err
		}
	}
	option, err = r.Share.set(entry)
	return r, option, err
}
