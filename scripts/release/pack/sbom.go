package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// writeSBOMs describes each binary in dist: itself, and the modules that it says it contains.
func writeSBOMs(version, dist, folder string) error {
	created, err := sourceDate()
	if err != nil {
		return err
	}
	licences, err := productModules()
	if err != nil {
		return err
	}
	binaries, err := filepath.Glob(filepath.Join(dist, "culvert_*_*", "culvert*"))
	if err != nil || len(binaries) == 0 {
		return fmt.Errorf("no binaries in %s: %w", dist, err)
	}
	for _, binary := range binaries {
		target, err := targetOf(binary)
		if err != nil {
			return err
		}
		name := "culvert_" + version + "_" + target.system + "_" + target.arch + target.variant
		if err := writeSBOM(binary, folder, name, licences, created); err != nil {
			return err
		}
	}
	return nil
}

func writeSBOM(
	binary, folder, name string, licences map[string]*module, created time.Time,
) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	doc, err := describe(name, content, info, licences, created)
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(folder, name+".spdx.json"))
	if err != nil {
		return err
	}
	err = spdxjson.Write(doc, file, spdxjson.Indent("  "))
	return errors.Join(err, file.Close())
}

// product is the identifier of the binary in its document.
const product = common.ElementID("Package-culvert")

func describe(
	name string, content []byte, info *buildinfo.BuildInfo, licences map[string]*module,
	created time.Time,
) (*v2_3.Document, error) {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	doc := &v2_3.Document{
		SPDXVersion:    v2_3.Version,
		DataLicense:    v2_3.DataLicense,
		SPDXIdentifier: "DOCUMENT",
		DocumentName:   name,
		// Unique, and the same for the same binary.
		DocumentNamespace: "https://spdx.org/spdxdocs/" + name + "-" + digest,
		CreationInfo: &v2_3.CreationInfo{
			Created:  created.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "culvert-pack"}},
		},
		Packages: []*v2_3.Package{{
			PackageName:               "culvert",
			PackageSPDXIdentifier:     product,
			PackageVersion:            os.Getenv("CULVERT_VERSION"), // the binary does not say
			PackageFileName:           "culvert",
			PackageDownloadLocation:   "NOASSERTION",
			PackageLicenseConcluded:   "MIT",
			PackageLicenseDeclared:    "MIT",
			PackageCopyrightText:      "NOASSERTION",
			PrimaryPackagePurpose:     "APPLICATION",
			PackageChecksums:          []common.Checksum{{Algorithm: common.SHA256, Value: digest}},
			IsFilesAnalyzedTagPresent: true,
		}},
		Relationships: []*v2_3.Relationship{relate("DOCUMENT", "DESCRIBES", product)},
	}
	deps := append([]*debug.Module{{Path: "std", Version: info.GoVersion}}, info.Deps...)
	for _, dep := range deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		known := licences[dep.Path]
		if known == nil || known.Version != dep.Version {
			return nil, fmt.Errorf("%s %s is not a module of this checkout", dep.Path, dep.Version)
		}
		p := describeModule(dep, known.licence)
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships,
			relate(product, "CONTAINS", p.PackageSPDXIdentifier))
	}
	return doc, nil
}

// notInIdentifiers are the characters that identifiers can't have.
var notInIdentifiers = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func describeModule(m *debug.Module, licence string) *v2_3.Package {
	version := strings.TrimPrefix(m.Version, "go")
	p := &v2_3.Package{
		PackageName: m.Path,
		PackageSPDXIdentifier: common.ElementID(
			"Package-" + notInIdentifiers.ReplaceAllString(m.Path, "-")),
		PackageVersion:          version,
		PackageDownloadLocation: "NOASSERTION",
		PackageLicenseConcluded: licence,
		PackageLicenseDeclared:  licence,
		PackageCopyrightText:    "NOASSERTION",
		PrimaryPackagePurpose:   "LIBRARY",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: "PACKAGE-MANAGER",
			RefType:  "purl",
			Locator:  "pkg:golang/" + m.Path + "@" + version,
		}},
		IsFilesAnalyzedTagPresent: true,
	}
	if m.Sum != "" {
		p.PackageComment = "go.sum: " + m.Sum
	}
	return p
}

func relate(from common.ElementID, how string, to common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{
		RefA:         common.DocElementID{ElementRefID: from},
		Relationship: how,
		RefB:         common.DocElementID{ElementRefID: to},
	}
}
