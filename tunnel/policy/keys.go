package policy

import (
	"fmt"
	"strings"

	"culvert/certs"
)

// KeyLineError is the error for a line of the authorized keys whose restrictions can't be used.
type KeyLineError struct {
	Line   int    // from 1
	Option string // that holds the restriction, "allow" or "reverse"
	Err    error
}

func (e *KeyLineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *KeyLineError) Unwrap() error { return e.Err }

// ForKeys returns the rules for the keys whose lines restrict their targets: what r forbids stays
// forbidden for them. Nil keys are none. An error is a *KeyLineError.
func (r *Rules) ForKeys(keys *certs.AuthorizedKeys) (map[certs.PublicKey]*Rules, error) {
	narrowed := make(map[certs.PublicKey]*Rules)
	for entry := range keys.All() {
		if entry.Allow == nil {
			continue
		}
		allow, err := parseRules([]string{strings.Join(entry.Allow, ",")})
		if err != nil {
			return nil, &KeyLineError{entry.Line, "allow", err}
		}
		narrowed[entry.Key] = r.narrow(allow)
	}
	return narrowed, nil
}

// ReverseRulesForKeys returns the rules of the keys whose lines list what they may bind. Nil keys
// are none. An error is a *KeyLineError.
func ReverseRulesForKeys(keys *certs.AuthorizedKeys) (map[certs.PublicKey]*ReverseRules, error) {
	rules := make(map[certs.PublicKey]*ReverseRules)
	for entry := range keys.All() {
		if entry.Reverse == nil {
			continue
		}
		granted, err := ParseReverseRules([]string{strings.Join(entry.Reverse, ",")})
		if err != nil {
			return nil, &KeyLineError{entry.Line, "reverse", err}
		}
		rules[entry.Key] = granted
	}
	return rules, nil
}
