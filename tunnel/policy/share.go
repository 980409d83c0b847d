package policy

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"culvert/certs"
)

// Share is the most that one client may use of a remote. A zero field is no bound of its own.
type Share struct {
	Sessions int
	Streams  int // of all sessions together

	// Up and Down are bytes a second that the streams of a client carry together, from it to its
	// targets and from these to it.
	Up, Down int64

	// Quota is the bytes that the streams carry in both directions in a day of UTC.
	Quota int64
}

// ParseCount parses the number of an option such as sessions=4.
func ParseCount(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("not a number from 1")
	}
	return int(n), nil
}

// ParseRate parses the rates of an option such as rate=1M/- in bytes a second, where - is none and
// becomes 0.
func ParseRate(text string) (up, down int64, err error) {
	before, after, ok := strings.Cut(text, "/")
	if !ok {
		return 0, 0, errors.New("not UP/DOWN")
	}
	if up, err = parseBytes(before); err != nil {
		return 0, 0, err
	}
	down, err = parseBytes(after)
	return up, down, err
}

// ParseQuota parses the bytes of an option such as quota=20G, where - is none and becomes 0.
func ParseQuota(text string) (int64, error) { return parseBytes(text) }

// parseBytes parses a number of bytes from 1, with one of the units K, M and G (1,024 times the one
// before) or without, or -, which is 0.
func parseBytes(text string) (int64, error) {
	if text == "-" {
		return 0, nil
	}
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G"} {
		if before, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = before, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is not a number of bytes from 1, such as 500K, 20M or 1G", text)
	}
	return int64(n) << shift, nil
}

// set replaces what the line of a key has options for. It returns which of them can't be used, and
// why.
func (s *Share) set(entry *certs.AuthorizedKey) (option string, err error) {
	for _, o := range []struct {
		name, value string
		parse       func(string) error
	}{
		{"sessions", entry.Sessions, countInto(&s.Sessions)},
		{"streams", entry.Streams, countInto(&s.Streams)},
		{"rate", entry.Rate, func(text string) (err error) {
			s.Up, s.Down, err = ParseRate(text)
			return err
		}},
		{"quota", entry.Quota, func(text string) (err error) {
			s.Quota, err = ParseQuota(text)
			return err
		}},
	} {
		if o.value == "" {
			continue
		}
		if err := o.parse(o.value); err != nil {
			return o.name, fmt.Errorf("bad %s=%q: %w", o.name, o.value, err)
		}
	}
	return "", nil
}

func countInto(field *int) func(string) error {
	return func(text string) (err error) {
		*field, err = ParseCount(text)
		return err
	}
}
