package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/github/go-spdx/v2/spdxexp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

// validateSBOMs checks all bills of materials in a folder.
func validateSBOMs(folder string) error {
	paths, err := filepath.Glob(filepath.Join(folder, "*.spdx.json"))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("no bills of materials in %s: %w", folder, err)
	}
	var failed error
	for _, path := range paths {
		if err := validateSBOM(path); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", filepath.Base(path), err))
		}
	}
	if failed == nil {
		fmt.Printf("%d bills of materials are valid\n", len(paths))
	}
	return failed
}

// validateSBOM checks that a document is one of SPDX 2.3, that its relationships are between its
// elements, and that its licences are expressions of SPDX.
func validateSBOM(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	doc := v2_3.Document{}
	if err := spdxjson.ReadInto(file, &doc); err != nil {
		return err
	}
	return validateDocument(&doc)
}

func validateDocument(doc *v2_3.Document) error {
	if doc.SPDXVersion != v2_3.Version || doc.DataLicense != v2_3.DataLicense {
		return fmt.Errorf("it is of %q under %q", doc.SPDXVersion, doc.DataLicense)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		return err
	}
	for _, p := range doc.Packages {
		for _, licence := range []string{p.PackageLicenseConcluded, p.PackageLicenseDeclared} {
			if ok, bad := spdxexp.ValidateLicenses([]string{licence}); !ok {
				return fmt.Errorf("%s has the licence %q", p.PackageName, bad)
			}
		}
	}
	return nil
}
