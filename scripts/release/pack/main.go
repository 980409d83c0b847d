// Pack makes what goreleaser can't make from modules alone and reproducibly: the list of licences,
// software bills of materials, and the container image. Times are SOURCE_DATE_EPOCH.
//
//	pack licences FILE               of what the product is built from, for all systems
//	pack sboms VERSION DIST FOLDER   SPDX 2.3 in JSON, from what `go version -m` shows of DIST's
//	pack image VERSION DIST FOLDER   an OCI image layout of the binaries for Linux in DIST
//	pack contents RELEASE CONFIG [TARGET...]  check that a release has all files of its targets
//	pack validate FOLDER             check the bills of materials
//
// DIST is where goreleaser has built the binaries.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "licences":
		return writeLicences(args[1])
	case len(args) == 4 && args[0] == "sboms":
		return writeSBOMs(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "image":
		return writeImage(args[1], args[2], args[3])
	case len(args) >= 3 && args[0] == "contents":
		return checkContents(args[1], args[2], args[3:])
	case len(args) == 2 && args[0] == "validate":
		return validateSBOMs(args[1])
	}
	return errors.New("usage: pack licences FILE | sboms|image VERSION DIST FOLDER | " +
		"contents RELEASE CONFIG [TARGET...] | validate FOLDER")
}

// sourceDate returns the time that everything gets, that of the commit.
func sourceDate() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
