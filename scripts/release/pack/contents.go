package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkContents checks that a release has the archive and the bill of materials of each target that
// goreleaser's configuration names, or of those in only if there are any, and for Linux the deb,
// the rpm and the apk; that each archive has what goreleaser was to put into it; and that its
// program is for the target. It runs in the repository's root, after the release was made there.
func checkContents(release, config string, only []string) error {
	targets, err := configuredTargets(config)
	if err != nil {
		return err
	}
	if len(only) > 0 {
		targets = slices.DeleteFunc(targets, func(t string) bool { return !slices.Contains(only, t) })
	}
	var failed error
	for _, name := range targets {
		t, err := targetOf(filepath.Join("culvert_"+name, "culvert"))
		if err == nil {
			err = checkTarget(release, t)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	if failed == nil {
		fmt.Printf("there are the files of %d targets\n", len(targets))
	}
	return failed
}

// configuredTargets returns the targets that goreleaser's configuration names.
func configuredTargets(config string) ([]string, error) {
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	var parsed struct{ Builds []struct{ Targets []string } }
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return nil, fmt.Errorf("%s: %w", config, err)
	}
	if len(parsed.Builds) != 1 || len(parsed.Builds[0].Targets) == 0 {
		return nil, fmt.Errorf("%s: no targets", config)
	}
	return parsed.Builds[0].Targets, nil
}

// packageArchitectures are the names of architectures in the file names of deb, rpm and apk.
var packageArchitectures = map[string][3]string{
	"amd64":   {"amd64", "x86_64", "x86_64"},
	"arm64":   {"arm64", "aarch64", "aarch64"},
	"arm":     {"armhf", "armv7hl", "armv7"},
	"386":     {"i386", "i386", "x86"},
	"riscv64": {"riscv64", "riscv64", "riscv64"},
}

func checkTarget(release string, t target) error {
	name := t.system + "_" + t.arch + t.variant
	patterns := []string{"culvert_*_" + name + ".spdx.json"}
	if t.system == "linux" {
		names := packageArchitectures[t.arch]
		patterns = append(patterns, "culvert_*_"+names[0]+".deb", "culvert-*."+names[1]+".rpm",
			"culvert_*_"+names[2]+".apk")
	}
	for _, pattern := range patterns {
		if _, err := single(release, pattern); err != nil {
			return err
		}
	}
	extension, program, read := ".tar.gz", "culvert", readTar
	if t.system == "windows" {
		extension, program, read = ".zip", "culvert.exe", readZip
	}
	archive, err := single(release, "culvert_*_"+name+extension)
	if err != nil {
		return err
	}
	content, err := read(archive)
	if err != nil {
		return err
	}
	wanted, err := archived(program)
	if err != nil {
		return err
	}
	for _, path := range wanted {
		if len(content[path]) == 0 {
			return fmt.Errorf("the archive has no %s", path)
		}
	}
	if len(content) != len(wanted) {
		return fmt.Errorf("the archive has %d files, want %d", len(content), len(wanted))
	}
	return checkProgram(content[program], t)
}

// archived returns the paths of an archive's files, those that release.sh has made included.
func archived(program string) ([]string, error) {
	paths := []string{program, "LICENSE", "README.md", "CHANGELOG.md", "THIRD-PARTY-LICENSES"}
	for inside, folder := range map[string]string{
		"man":            "build/package/man",
		"completions":    "build/package/completions",
		"systemd/system": "scripts/release/systemd/system",
		"systemd/user":   "scripts/release/systemd/user",
		"etc":            "scripts/release/etc",
		"docs":           "docs",
	} {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				paths = append(paths, inside+filepath.ToSlash(strings.TrimPrefix(path, folder)))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// single returns the only file of a folder that matches.
func single(folder, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d files %s: %w", len(found), pattern, err)
	}
	return found[0], nil
}

// checkProgram checks that a program is static, and for a target.
func checkProgram(program []byte, t target) error {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return err
	}
	want := map[string]string{"GOOS": t.system, "GOARCH": t.arch, "CGO_ENABLED": "0"}
	if t.variant != "" {
		want["GOARM"] = strings.TrimPrefix(t.variant, "v")
	}
	for _, setting := range info.Settings {
		if value, ok := want[setting.Key]; ok && value == setting.Value {
			delete(want, setting.Key)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("the program is not built with %v", want)
	}
	return nil
}

// readTar and readZip return the files of an archive by their paths within its folder.
func readTar(path string) (map[string][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	content := map[string][]byte{}
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		_, name, _ := strings.Cut(header.Name, "/")
		if content[name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

func readZip(path string) (map[string][]byte, error) {
	r, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := map[string][]byte{}
	err = fs.WalkDir(r, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		_, name, _ := strings.Cut(path, "/")
		content[name], err = fs.ReadFile(r, path)
		return err
	})
	return content, err
}
