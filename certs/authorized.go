package certs

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
)

// AuthorizedKey is one line of an authorized-keys file.
type AuthorizedKey struct {
	Key      PublicKey
	Allow    []string // the rules of allow=, as text; nil when there is no such option
	Reverse  []string // the rules of reverse=, likewise
	Sessions string   // the value of sessions=; "" when there is no such option
	Streams  string   // that of streams=, likewise
	Rate     string   // that of rate=, likewise
	Quota    string   // that of quota=, likewise
	Comment  string
	Line     int // from 1
}

// AuthorizedKeys lists the clients that a remote admits. A nil one lists nobody. It never changes,
// so that goroutines may share it.
type AuthorizedKeys struct {
	entries []AuthorizedKey
}

// ParseAuthorizedKeys reads a key a line: the public key, then options (allow=RULE,…,
// reverse=RULE,…, sessions=N, streams=N, rate=UP/DOWN, quota=BYTES), then a comment, separated by
// white space. Empty lines and lines that begin with # are ignored. Anything that might be a
// misspelt or misplaced restriction is an error, as is a key that is listed twice: either could
// grant more than was meant. Errors about a line are a *LineError; no error quotes the file.
func ParseAuthorizedKeys(r io.Reader) (*AuthorizedKeys, error) {
	keys := &AuthorizedKeys{}
	lines := make(map[PublicKey]int)
	err := eachLine(r, func(number int, line string) error {
		entry, err := parseAuthorizedKey(line)
		if err != nil {
			return err
		}
		if earlier, ok := lines[entry.Key]; ok {
			return fmt.Errorf("the key is already on line %d", earlier)
		}
		if len(keys.entries) == maxAuthorizedKeys {
			return fmt.Errorf("%w: more than %d keys", ErrTooLarge, maxAuthorizedKeys)
		}
		lines[entry.Key] = number
		entry.Line = number
		keys.entries = append(keys.entries, entry)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

var errUnknownOption = errors.New("unknown option (a comment with = in it begins with #)")

func parseAuthorizedKey(line string) (AuthorizedKey, error) {
	fields := strings.Fields(line)
	key, err := ParsePublicKey(fields[0])
	if err != nil {
		return AuthorizedKey{}, err
	}
	entry := AuthorizedKey{Key: key}
	seen := make(map[string]bool)
	fields = fields[1:]
	for len(fields) > 0 {
		name, value, ok := strings.Cut(fields[0], "=")
		if !ok || fields[0][0] == '#' {
			break
		}
		if !slices.Contains(keyOptions, name) {
			return AuthorizedKey{}, errUnknownOption
		}
		if seen[name] {
			return AuthorizedKey{}, fmt.Errorf("%s= appears twice", name)
		}
		seen[name] = true
		if err := entry.setOption(name, value); err != nil {
			return AuthorizedKey{}, err
		}
		fields = fields[1:]
	}
	commented := len(fields) > 0 && fields[0][0] == '#'
	for _, f := range fields {
		name, _, ok := strings.Cut(f, "=")
		switch {
		case !ok:
		case slices.Contains(keyOptions, strings.ToLower(strings.TrimLeft(name, "#"))):
			return AuthorizedKey{}, errors.New("an option in the comment has no effect: move it " +
				"before the comment, or remove it")
		case !commented: // it may be meant for an option
			return AuthorizedKey{}, errUnknownOption
		}
	}
	entry.Comment = strings.TrimSpace(strings.TrimPrefix(strings.Join(fields, " "), "#"))
	return entry, nil
}

// keyOptions are the names of the options of a line.
var keyOptions = []string{"allow", "reverse", "sessions", "streams", "rate", "quota"}

// setOption stores the value of one of the keyOptions.
func (k *AuthorizedKey) setOption(name, value string) error {
	list := func(rules *[]string) error {
		if *rules = strings.Split(value, ","); slices.Contains(*rules, "") {
			return fmt.Errorf("%s= has an empty rule", name)
		}
		return nil
	}
	switch name {
	case "allow":
		return list(&k.Allow)
	case "reverse":
		return list(&k.Reverse)
	case "sessions":
		k.Sessions = value
	case "streams":
		k.Streams = value
	case "rate":
		k.Rate = value
	case "quota":
		k.Quota = value
	}
	if value == "" {
		return fmt.Errorf("%s= has no value", name)
	}
	return nil
}

// Len returns the number of keys.
func (a *AuthorizedKeys) Len() int {
	if a == nil {
		return 0
	}
	return len(a.entries)
}

// Lookup finds the line of a key. Its duration reveals neither how much of the key matched nor on
// which line. The caller must not change the entry.
func (a *AuthorizedKeys) Lookup(k PublicKey) (*AuthorizedKey, bool) {
	if a == nil {
		return nil, false
	}
	var found *AuthorizedKey
	for i := range a.entries {
		if a.entries[i].Key.Equal(k) {
			found = &a.entries[i]
		}
	}
	return found, found != nil
}

// All returns the entries in the order of their lines. The caller must not change them.
func (a *AuthorizedKeys) All() iter.Seq[*AuthorizedKey] {
	return func(yield func(*AuthorizedKey) bool) {
		if a == nil {
			return
		}
		for i := range a.entries {
			if !yield(&a.entries[i]) {
				return
			}
		}
	}
}
