package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	stateFolder = "/var/lib/culvert"
	imageUser   = 65532 // by custom "nonroot": it has no name, since nothing asks for one
)

// writeImage writes an image layout with the binaries for Linux in dist, a folder of goreleaser's.
// Everything in it is root's and read-only, but for the folder of the state, a volume.
func writeImage(version, dist, folder string) error {
	created, err := sourceDate()
	if err != nil {
		return err
	}
	binaries, err := filepath.Glob(filepath.Join(dist, "*_linux_*", "culvert"))
	if err != nil || len(binaries) == 0 {
		return fmt.Errorf("no binary for Linux in %s: %w", dist, err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	slices.Sort(binaries)
	for _, binary := range binaries {
		target, err := targetOf(binary)
		if err != nil {
			return err
		}
		platform := &v1.Platform{
			OS: target.system, Architecture: target.arch, Variant: target.variant,
		}
		image, err := newImage(version, binary, platform, created)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: platform},
		})
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	// podman, containerd and Docker take this for the whole name of the image. The latter two don't
	// complete it, so it has a registry: localhost, which podman gives to images of none.
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": "localhost/culvert:" + strings.TrimPrefix(version, "v"),
	}))
}

func newImage(
	version, binary string, platform *v1.Platform, created time.Time,
) (v1.Image, error) {
	content, err := layerOf(binary, created)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: created}},
	})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, configOf(image, version, platform, created))
}

// configOf returns the configuration of an image with its layers. That it runs with a read-only
// root is for whoever runs it to say; nothing in it needs another.
func configOf(
	image v1.Image, version string, platform *v1.Platform, created time.Time,
) *v1.ConfigFile {
	file, err := image.ConfigFile()
	if err != nil {
		panic("pack: a configuration in memory can't be read: " + err.Error())
	}
	file = file.DeepCopy()
	file.Created = v1.Time{Time: created}
	file.OS, file.Architecture, file.Variant = platform.OS, platform.Architecture, platform.Variant
	user := fmt.Sprintf("%d:%d", imageUser, imageUser)
	file.Config = v1.Config{
		User:       user,
		Entrypoint: []string{"/culvert"},
		Cmd:        []string{"--help"},
		Env: []string{
			"PATH=/", "STATE_DIRECTORY=" + stateFolder,
			// The root has no /run, and may be read-only.
			"RUNTIME_DIRECTORY=" + stateFolder + "/run",
		},
		Volumes:      map[string]struct{}{stateFolder: {}},
		WorkingDir:   stateFolder,
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "culvert",
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.created":  created.Format(time.RFC3339),
			"org.opencontainers.image.revision": os.Getenv("CULVERT_COMMIT"),
			"org.opencontainers.image.licenses": "MIT",
		},
	}
	return file
}

// layerOf returns an archive of all that is in the image.
func layerOf(binary string, created time.Time) ([]byte, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(header tar.Header, content []byte) error {
		header.Size, header.ModTime, header.Format = int64(len(content)), created, tar.FormatPAX
		if err := w.WriteHeader(&header); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	folder := func(name string, mode int64, user int) tar.Header {
		return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, Uid: user, Gid: user}
	}
	for _, entry := range []struct {
		header  tar.Header
		content []byte
	}{
		{tar.Header{Typeflag: tar.TypeReg, Name: "culvert", Mode: 0o555}, program},
		{folder("etc/", 0o755, 0), nil},
		{folder("etc/ssl/", 0o755, 0), nil},
		{folder("etc/ssl/certs/", 0o755, 0), nil},
		{tar.Header{Typeflag: tar.TypeReg, Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o444},
			rootCertificates()},
		{folder("var/", 0o755, 0), nil},
		{folder("var/lib/", 0o755, 0), nil},
		{folder("var/lib/culvert/", 0o700, imageUser), nil},
	} {
		if err := add(entry.header, entry.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// rootCertificates returns the CAs that Mozilla trusts, in PEM, as the module of Go's has them: the
// machine that builds may have others. Those with constraints, which a file can't hold, are left
// out.
func rootCertificates() []byte {
	var roots [][]byte
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			roots = append(roots, root.Certificate)
		}
	}
	slices.SortFunc(roots, bytes.Compare)
	var file bytes.Buffer
	for _, root := range roots {
		pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: root}) // a buffer takes everything
	}
	return file.Bytes()
}
