package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// source is a file that goreleaser packs.
type source struct{ Src, Dst, Type string }

// TestGoreleaser compares goreleaser's configuration with the files that it names, and with the
// other places that say how culvert is built. The configuration itself is checked by goreleaser.
func TestGoreleaser(t *testing.T) {
	t.Chdir(root)
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var config struct {
		Builds []struct {
			Env, Flags, Tags, Ldflags, Targets []string
		}
		Archives []struct{ Files []source }
		Nfpms    []struct {
			Contents []source
			Scripts  map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(read(".goreleaser.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	script, build := read("scripts/release/release.sh"), read("scripts/build.sh")
	sources := append(config.Archives[0].Files, config.Nfpms[0].Contents...)
	if !strings.Contains(script, "scripts/release/packages build/package/scripts") {
		t.Error("release.sh does not copy the packages' scripts")
	}
	for _, path := range config.Nfpms[0].Scripts {
		own := strings.Replace(path, "build/package/scripts", "scripts/release/packages", 1)
		sources = append(sources, source{Src: own})
		sources = append(sources, source{Src: path})
	}
	for _, s := range sources {
		if s.Type == "symlink" { // to a file of the package
			continue
		}
		if made, ok := strings.CutPrefix(s.Src, "build/package/"); ok {
			if folder, _, _ := strings.Cut(made, "/"); !strings.Contains(script, "build/package/"+folder) {
				t.Errorf("release.sh does not make %s", s.Src)
			}
			continue
		}
		if found, err := filepath.Glob(s.Src); err != nil || len(found) == 0 {
			t.Errorf("%s does not exist: %v", s.Src, err)
		}
	}
	b := config.Builds[0]
	for _, word := range append(append(b.Env, b.Flags...), b.Tags...) {
		if !strings.Contains(build, word) {
			t.Errorf("goreleaser builds with %s, build.sh without", word)
		}
	}
	for _, name := range regexp.MustCompile(`-X [a-zA-Z/.]+=`).FindAllString(build, -1) {
		if !strings.Contains(strings.Join(b.Ldflags, " "), name) {
			t.Errorf("build.sh builds with %s, goreleaser without", name)
		}
	}
	for _, target := range b.Targets {
		system, _, _ := strings.Cut(target, "_")
		if !strings.Contains(strings.Join(systems, " "), system) {
			t.Errorf("the licences are not collected for %s", system)
		}
	}
}
