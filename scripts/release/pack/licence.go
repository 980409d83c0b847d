package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// systems are those that the product is released for.
var systems = []string{"darwin", "freebsd", "linux", "windows"}

// module is a module that a program contains, with its licence.
type module struct {
	Path, Version, Dir string

	licence string   // as SPDX names it
	texts   []string // of the licence, and of notices that go with it
}

// licenceFiles are the names, in capitals and without an extension, of files to pass on.
var licenceFiles = []string{"COPYING", "LICENCE", "LICENSE", "NOTICE", "PATENTS"}

// readLicence sets the module's licence and its texts from its folder.
func (m *module) readLicence() error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return err
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		base := strings.ToUpper(strings.TrimSuffix(name, filepath.Ext(name)))
		if !slices.Contains(licenceFiles, base) || entry.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, name))
		if err != nil {
			return err
		}
		m.texts = append(m.texts, strings.TrimSpace(string(text)))
		if base != "NOTICE" && base != "PATENTS" {
			for _, match := range licensecheck.Scan(text).Match {
				names = append(names, match.ID)
			}
		}
	}
	slices.Sort(names)
	m.licence = strings.Join(slices.Compact(names), " AND ")
	if m.licence == "" {
		return fmt.Errorf("%s %s: no licence found in %s", m.Path, m.Version, m.Dir)
	}
	return nil
}

// productModules returns the modules that the product contains on any system, by their paths. The
// product itself is not among them. It runs in the product's folder.
func productModules() (map[string]*module, error) {
	found := map[string]*module{}
	for _, system := range systems {
		list := exec.Command("go", "list", "-deps", "-json=Module", "-tags", "urfave_cli_no_docs", ".")
		list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system)
		output, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		decoder := json.NewDecoder(bytes.NewReader(output))
		for {
			var p struct {
				Module *struct {
					module
					Main bool
				}
			}
			if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if p.Module != nil && !p.Module.Main {
				found[p.Module.Path] = &p.Module.module
			}
		}
	}
	standard, err := standardLibrary()
	if err != nil {
		return nil, err
	}
	found[standard.Path] = standard
	for _, m := range found {
		if err := m.readLicence(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// standardLibrary returns Go's own library, which every program contains.
func standardLibrary() (*module, error) {
	output, err := exec.Command("go", "env", "GOROOT", "GOVERSION").Output()
	root, version, ok := strings.Cut(strings.TrimSpace(string(output)), "\n")
	if err != nil || !ok {
		return nil, fmt.Errorf("go env: %q, %w", output, err)
	}
	return &module{Path: "std", Version: version, Dir: root}, nil
}

// writeLicences writes which modules the product contains, under which licences, and their texts.
func writeLicences(path string) error {
	found, err := productModules()
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	modules := slices.SortedFunc(maps.Values(found), func(a, b *module) int {
		return cmp.Compare(a.Path, b.Path)
	})
	fmt.Fprint(w, "culvert contains these modules, \"std\" being the standard library of Go.\n\n")
	for _, m := range modules {
		fmt.Fprintf(w, "%s %s: %s\n", m.Path, m.Version, m.licence)
	}
	for _, m := range modules {
		fmt.Fprintf(w, "\n%s\n%s %s: %s\n", strings.Repeat("=", 80), m.Path, m.Version, m.licence)
		for _, text := range m.texts {
			fmt.Fprintf(w, "\n%s\n", text)
		}
	}
	return errors.Join(w.Flush(), file.Close())
}
