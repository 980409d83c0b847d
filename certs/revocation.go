package certs

import (
	"errors"
	"io"
	"strings"
)

// Revocations is a list of certificates to refuse, by their gid. A nil list revokes nothing. It
// never changes, so that goroutines may share it.
type Revocations struct {
	gids map[string]struct{} // in lower case
}

// ParseRevocations reads one gid per line. Empty lines, and everything after a #, are ignored.
// Anything but a UUID is an error, a *LineError: a mistyped line would revoke nothing.
func ParseRevocations(r io.Reader) (*Revocations, error) {
	revoked := &Revocations{gids: make(map[string]struct{})}
	err := eachLine(r, func(_ int, line string) error {
		line, _, _ = strings.Cut(line, "#")
		gid := strings.ToLower(strings.TrimSpace(line))
		if !isUUID(gid) {
			return errors.New("not a certificate's gid")
		}
		revoked.gids[gid] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// check refuses a revoked certificate, and one that cannot be revoked.
func (r *Revocations) check(c *Certificate) error {
	if r == nil {
		return nil
	}
	gid := strings.ToLower(c.gid)
	if !isUUID(gid) {
		return refuse(ReasonNoGID)
	}
	if _, ok := r.gids[gid]; ok {
		return refuse(ReasonRevoked)
	}
	return nil
}

// isUUID takes lower-case hexadecimal digits in groups of 8-4-4-4-12 (RFC 9562, section 4).
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !isDigit(s[i]) && (s[i] < 'a' || s[i] > 'f') {
				return false
			}
		}
	}
	return true
}
