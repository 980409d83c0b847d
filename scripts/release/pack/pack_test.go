package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// root is the product's folder.
const root = "../../.."

// TestBill writes the bill of materials of a binary with all of the product's modules, and reads it
// back with a validator.
func TestBill(t *testing.T) {
	t.Chdir(root)
	t.Setenv("CULVERT_VERSION", "v0.0.0-test")
	modules, err := productModules()
	if err != nil {
		t.Fatal(err)
	}
	info := &buildinfo.BuildInfo{GoVersion: modules["std"].Version}
	for _, m := range modules {
		if m.Path != "std" {
			info.Deps = append(info.Deps, &debug.Module{Path: m.Path, Version: m.Version, Sum: "h1:sum"})
		}
	}
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	doc, err := describe("culvert_test", []byte("binary"), info, modules, created)
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if err := spdxjson.Write(doc, &written); err != nil {
		t.Fatal(err)
	}
	read := v2_3.Document{}
	if err := spdxjson.ReadInto(&written, &read); err != nil {
		t.Fatal(err)
	}
	if err := validateDocument(&read); err != nil {
		t.Error(err)
	}
	declared := read.Packages[1].PackageLicenseDeclared
	read.Packages[1].PackageLicenseDeclared = "MYT"
	if err := validateDocument(&read); err == nil {
		t.Error("a licence that SPDX doesn't know is valid")
	}
	read.Packages[1].PackageLicenseDeclared = declared
	read.Relationships[1].RefB.ElementRefID = "Package-missing"
	if err := validateDocument(&read); err == nil {
		t.Error("a relationship to nothing is valid")
	}
	read.Relationships[1].RefB = read.Relationships[0].RefB
	if read.CreationInfo.Created != "2026-01-02T03:04:05Z" ||
		!strings.HasPrefix(read.DocumentNamespace, "https://spdx.org/spdxdocs/culvert_test-") {
		t.Errorf("made %s as %s", read.CreationInfo.Created, read.DocumentNamespace)
	}
	if len(read.Packages) != len(modules)+1 || len(read.Relationships) != len(read.Packages) {
		t.Errorf("%d packages and %d relationships for %d modules",
			len(read.Packages), len(read.Relationships), len(modules))
	}
	for _, p := range read.Packages {
		if p.PackageVersion == "" || p.PackageLicenseDeclared == "" {
			t.Errorf("%s has the version %q and the licence %q",
				p.PackageName, p.PackageVersion, p.PackageLicenseDeclared)
		}
	}

	info.Deps[0].Version = "v99.0.0"
	if _, err := describe("culvert_test", nil, info, modules, created); err == nil {
		t.Error("a module of another checkout is described with this one's licence")
	}
}

// TestLicences writes the list of licences, which has to have the text of each.
func TestLicences(t *testing.T) {
	t.Chdir(root)
	path := filepath.Join(t.TempDir(), "licences")
	if err := writeLicences(path); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for _, want := range []string{
		"\nstd go1.", "\ngolang.org/x/crypto v", ": BSD-3-Clause\n", ": MIT\n", ": Apache-2.0\n",
		"Permission is hereby granted, free of charge", "Apache License", "CoreOS",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the list has no %q", want)
		}
	}
	if strings.Contains(text, "\nculvert ") {
		t.Error("the product is on its own list")
	}
	if strings.Contains(text, "/pkg/mod/") {
		t.Error("the list has paths of this machine")
	}
}

// files returns the contents of all files below a folder.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, folder)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestImage makes the same image twice, in different folders. It is valid, and has nothing but what
// it needs, of which its user can write to the folder of the state alone.
func TestImage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1767323045")
	var made [2]string
	for i := range made {
		dist := t.TempDir()
		for _, name := range []string{"culvert_linux_arm_7", "culvert_linux_amd64_v1"} {
			if err := os.Mkdir(filepath.Join(dist, name), 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dist, name, "culvert")
			if err := os.WriteFile(path, []byte(name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		made[i] = filepath.Join(t.TempDir(), "image")
		if err := writeImage("v0.0.0-test", dist, made[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(files(t, made[0]), files(t, made[1])) {
		t.Error("two images of the same binaries differ")
	}
	outer, err := layout.ImageIndexFromPath(made[0])
	if err != nil {
		t.Fatal(err)
	}
	entry, err := outer.IndexManifest()
	if err != nil || len(entry.Manifests) != 1 {
		t.Fatalf("the layout has the entries %v, %v", entry, err)
	}
	name := entry.Manifests[0].Annotations["org.opencontainers.image.ref.name"]
	if name != "localhost/culvert:0.0.0-test" {
		t.Errorf("podman load would call it %q", name)
	}
	index, err := outer.ImageIndex(entry.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
	}
	if want := []string{"linux/amd64", "linux/arm/v7"}; !slices.Equal(platforms, want) {
		t.Fatalf("the platforms are %v, want %v", platforms, want)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	run := config.Config
	if run.User != "65532:65532" || !slices.Equal(run.Entrypoint, []string{"/culvert"}) {
		t.Errorf("it runs %v as %s", run.Entrypoint, run.User)
	}
	// A folder that the user may write to, for the control socket: there is no other.
	if !slices.Contains(run.Env, "RUNTIME_DIRECTORY=/var/lib/culvert/run") {
		t.Errorf("its environment is %v", run.Env)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, tar.NewReader(content))
}

func checkContent(t *testing.T, r *tar.Reader) {
	t.Helper()
	roots := x509.NewCertPool()
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 1767323045 {
			t.Errorf("%s is of %v", header.Name, header.ModTime)
		}
		owned := header.Uid == imageUser
		if owned != (header.Name == "var/lib/culvert/") || header.Mode&0o022 != 0 {
			t.Errorf("%s belongs to %d, with the mode %o", header.Name, header.Uid, header.Mode)
		}
		if strings.HasSuffix(header.Name, ".crt") {
			pem, err := io.ReadAll(r)
			if err != nil || !roots.AppendCertsFromPEM(pem) {
				t.Errorf("the CAs can't be read: %v", err)
			}
			if n := bytes.Count(pem, []byte("BEGIN CERTIFICATE")); n < 100 {
				t.Errorf("there are %d CAs", n)
			}
		}
	}
	if roots.Equal(x509.NewCertPool()) {
		t.Error("there are no CAs")
	}
}
