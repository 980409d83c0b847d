package policy

import (
	"errors"
	"strconv"
)

// Share is the most that one client may use of a remote. A zero field is no bound of its own.
type Share struct {
	Sessions int
}

// ParseCount parses the number of an option such as sessions=4.
func ParseCount(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("not a number from 1")
	}
	return int(n), nil
}
