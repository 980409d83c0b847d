package certs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// byteOrderMark is what some editors write at the beginning of a file, in UTF-8.
const byteOrderMark = "\ufeff"

// eachLine calls f with the number and the trimmed text of each line of a file of trust that is
// neither empty nor a comment. Its errors are those of r, ErrTooLarge, and f's as *LineError.
func eachLine(r io.Reader, f func(number int, line string) error) error {
	limited := &io.LimitedReader{R: r, N: maxTrustFile + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, maxTrustLine+2) // and a line break, of one byte or two
	number := 0
	for scanner.Scan() {
		number++
		text := scanner.Text()
		if number == 1 {
			text = strings.TrimPrefix(text, byteOrderMark)
		}
		line := strings.TrimSpace(text)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(number, line); err != nil {
			return &LineError{Line: number, Err: err}
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return &LineError{Line: number + 1, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge,
			maxTrustLine)}
	} else if err != nil {
		return err
	}
	if limited.N <= 0 {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxTrustFile)
	}
	return nil
}
