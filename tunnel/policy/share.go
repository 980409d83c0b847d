package policy

import (
	"errors"
	"fmt"
	"strconv"

	"culvert/certs"
)

// Share is the most that one client may use of a remote. A zero field is no bound of its own.
type Share struct {
	Sessions int
	Streams  int // of all sessions together
}

// ParseCount parses the number of an option such as sessions=4.
func ParseCount(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("not a number from 1")
	}
	return int(n), nil
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
