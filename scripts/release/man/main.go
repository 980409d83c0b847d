// Man writes culvert's manual pages, one of the program and one of each command: the options come
// from the commands, the prose from docs/cli.md. It runs in the repository's root:
//
//	go run ./scripts/release/man -version v0.1.0 -date 2026-01-02 -out build/man
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"culvert/internal/cli"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

func main() {
	version := flag.String("version", "dev", "the `version` in the pages")
	date := flag.String("date", "", "the `date` in the pages, that of the commit: year-month-day")
	docs := flag.String("docs", "docs/cli.md", "the `file` with the prose")
	out := flag.String("out", "build/man", "write to `folder`, which is created")
	flag.Parse()
	if err := write(*version, *date, *docs, *out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(version, date, docs, out string) error {
	text, err := os.ReadFile(docs)
	if err != nil {
		return err
	}
	prose, err := splitProse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", docs, err)
	}
	pages, err := manual{version, date, prose}.pages(cli.App(version))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, page := range pages {
		roff := wrap(string(md2man.Render([]byte(page))))
		if err := os.WriteFile(filepath.Join(out, name), []byte(roff), 0o644); err != nil {
			return err
		}
	}
	return nil
}
