package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	shownBy    = regexp.MustCompile(`\[((?:Test|Fuzz)\w+)\]`)
	definition = regexp.MustCompile(`(?m)^\[((?:Test|Fuzz)\w+)\]: \.\./(\S+_test\.go)$`)
)

// TestThreatModel checks that each claim of docs/threat-model.md links a test that shows it, and
// that these tests exist.
func TestThreatModel(t *testing.T) {
	content, err := os.ReadFile("../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	defined := map[string]bool{}
	for _, m := range definition.FindAllStringSubmatch(text, -1) {
		name, path := m[1], filepath.Join("../..", filepath.FromSlash(m[2]))
		if !definedFunctions(t, path)[name] {
			t.Errorf("%s does not define %s", m[2], name)
		}
		defined[name] = true
	}
	text = definition.ReplaceAllString(text, "")
	claims := 0
	for block := range strings.SplitSeq(text, "\n\n") {
		var parts []string // each with a claim
		switch {
		case strings.HasPrefix(block, "**"):
			parts = []string{block}
		case strings.HasPrefix(block, "| "):
			parts = strings.Split(strings.TrimSpace(block), "\n")[2:]
		}
		for _, part := range parts {
			claims++
			if !shownBy.MatchString(part) {
				t.Errorf("no test is linked: %.60s…", part)
			}
		}
	}
	for _, m := range shownBy.FindAllStringSubmatch(text, -1) {
		if !defined[m[1]] {
			t.Errorf("%s is linked to no file", m[1])
		}
	}
	if claims < 20 {
		t.Errorf("found only %d claims: the page is not what the test expects", claims)
	}
}
