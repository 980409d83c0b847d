package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"culvert/internal/cli"
)

// longLine is a complaint of mandoc's that examples may cause: their lines are what culvert prints.
var longLine = regexp.MustCompile(`:(\d+):\d+: STYLE: input text line longer than 80 bytes`)

// TestPages writes the pages, which mandoc has to accept without any complaint, and in which each
// command and each of its flags is found.
func TestPages(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Fatalf("%v: `make test-deps` installs it", err)
	}
	dir := t.TempDir()
	if err := write("v0.0.0-test", "2026-01-02", "../../../docs/cli.md", dir); err != nil {
		t.Fatal(err)
	}
	for c := range cli.App("v0.0.0-test").Runnable() {
		page := "culvert-" + strings.Join(c.Path(), "-")
		text := render(t, mandoc, filepath.Join(dir, page+".1"))
		for _, f := range c.Flags() {
			for _, name := range f.Names() {
				entry := strings.TrimSpace(spell(name) + " " + f.Placeholder())
				if !strings.Contains(text, entry) {
					t.Errorf("%s(1) has no %s", page, entry)
				}
			}
		}
		if main := render(t, mandoc, filepath.Join(dir, "culvert.1")); !strings.Contains(
			main, page+"(1)") {
			t.Errorf("culvert(1) does not mention %s(1)", page)
		}
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		lint(t, mandoc, page)
	}
	text := render(t, mandoc, filepath.Join(dir, "culvert.1"))
	for _, part := range []string{
		"2026-01-02", "culvert v0.0.0-test", "EXIT STATUS", "the remote can't be reached",
		"known_remotes",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("culvert(1) has no %q", part)
		}
	}
}

// render returns a page as a reader sees it, without emphasis, on very long lines.
func render(t *testing.T, mandoc, page string) string {
	t.Helper()
	text, err := exec.Command(mandoc, "-T", "utf8", "-O", "width=1000", page).Output()
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	return regexp.MustCompile(".\b").ReplaceAllString(string(text), "")
}

func lint(t *testing.T, mandoc, page string) {
	t.Helper()
	source, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(source), "\n")
	output, err := exec.Command(mandoc, "-T", "lint", page).Output()
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	for complaint := range strings.Lines(string(output)) {
		if m := longLine.FindStringSubmatch(complaint); m != nil {
			at, err := strconv.Atoi(m[1])
			if err == nil && inExample(lines[:at]) {
				continue
			}
		}
		t.Error(strings.TrimSpace(complaint))
	}
}

// inExample reports whether lines end within an example.
func inExample(lines []string) bool {
	inside := false
	for _, line := range lines {
		inside = line == ".EX" || inside && line != ".EE"
	}
	return inside
}

// TestLinks shows what a page keeps of a link.
func TestLinks(t *testing.T) {
	for link, want := range map[string]string{
		"[TOML](https://toml.io)":             "TOML (https://toml.io)",
		"[target rules](rules.md)":            "target rules (rules.md)",
		"[a rule](rules.md#syntax)":           "a rule (rules.md)",
		"[rules.md](rules.md#syntax)":         "rules.md",
		"[shares](#shares)":                   "shares",
		"[authorities](../README.md#certify)": "authorities (../README.md)",
	} {
		if got := plainLink(link); got != want {
			t.Errorf("%s: %s, want %s", link, got, want)
		}
	}
}
