//go:build !unix

package certs

import (
	"io/fs"
	"os"
)

func keepOwner(*os.File, fs.FileInfo) error { return nil } // a new file inherits from its folder
