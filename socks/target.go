package socks

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"culvert/internal/bounds"
)

var (
	errName        = errors.New("target name is empty, too long or has unusable characters")
	errNameTooLong = &bounds.Error{Bound: bounds.ProxyName, Err: errName}
	errPortZero    = errors.New("target port is 0")
)

// checkTarget refuses what can't be a target: port 0, the empty name (which net.Dial takes for this
// machine), long names, and names with bytes that corrupt a log, a resolver's query or the
// "host:port" form. It treats an address like a name.
func checkTarget(host string, port int) error {
	if port == 0 {
		return errPortZero
	}
	unusable := func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || r == '[' || r == ']'
	}
	if len(host) > maxName {
		return errNameTooLong
	}
	if host == "" || !utf8.ValidString(host) ||
		strings.ContainsFunc(host, unusable) {
		return errName
	}
	return nil
}
