//go:build !linux

package certs

import (
	"errors"
	"io/fs"
	"os"
)

// openUnnamed fails: the system has no files without a name.
func openUnnamed(string, fs.FileMode) (*os.File, error) { return nil, errors.ErrUnsupported }

func linkUnnamed(*os.File, string) error { return errors.ErrUnsupported }
