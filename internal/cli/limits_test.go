package cli

import (
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	gotoken "go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/internal/cli/flags"
)

// constantLoader evaluates the constants of packages from their sources. It knows the types of no
// other package than time: what depends on others has no value.
type constantLoader struct {
	files    *gotoken.FileSet
	packages map[string]*types.Package
}

func newConstantLoader() *constantLoader {
	return &constantLoader{gotoken.NewFileSet(), map[string]*types.Package{}}
}

// Import implements types.Importer.
func (l *constantLoader) Import(path string) (*types.Package, error) {
	if p := l.packages[path]; p != nil {
		return p, nil
	}
	folder, ours := strings.CutPrefix(path, "culvert/")
	switch {
	case ours:
		folder = filepath.Join("../..", folder)
	case path == "time":
		folder = filepath.Join(build.Default.GOROOT, "src", path)
	default:
		p := types.NewPackage(path, filepath.Base(path))
		p.MarkComplete()
		l.packages[path] = p
		return p, nil
	}
	found, err := build.ImportDir(folder, 0)
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(l.files, filepath.Join(folder, name), nil,
			parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	check := types.Config{Importer: l, IgnoreFuncBodies: true, FakeImportC: true,
		Error: func(error) {}} // about what is in packages that are unknown here
	p, _ := check.Check(path, l.files, files, nil)
	l.packages[path] = p
	return p, nil
}

// value returns the value of a constant, with durations in nanoseconds.
func (l *constantLoader) value(path, name string) (int64, bool) {
	p, err := l.Import("culvert/" + path)
	if err != nil {
		return 0, false
	}
	c, ok := p.Scope().Lookup(name).(*types.Const)
	if !ok {
		return 0, false
	}
	return constant.Int64Val(constant.ToInt(c.Val()))
}

// bounds returns the names of a package's constants that bound something by the names that such
// constants have.
func (l *constantLoader) bounds(t *testing.T, path string) (names []string) {
	t.Helper()
	p, err := l.Import("culvert/" + path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range p.Scope().Names() {
		c, ok := p.Scope().Lookup(name).(*types.Const)
		if _, coded := constantType(c).(*types.Named); !ok || !boundName.MatchString(name) ||
			coded && c.Type().String() != "time.Duration" { // a code of an error
			continue
		}
		names = append(names, name)
	}
	return names
}

// constantType returns the type of a constant that may be nil.
func constantType(c *types.Const) types.Type {
	if c == nil {
		return nil
	}
	return c.Type()
}

var (
	boundName = regexp.MustCompile(`^(Default)?[mM]ax[A-Z]|Timeout$`)
	boundRow  = regexp.MustCompile("^\\| `([a-z0-9-]+)` \\| `([a-z/]+)\\.(\\w+)` \\| (.*?) \\| " +
		"(.*?) \\| (.*?) \\| (.*?) \\| (.*?) \\|$")
)

// boundPackages are those of which all bounds have to be in the table, with the constants that are
// named like bounds and are none: parts of the format, and what this side builds by itself.
var boundPackages = map[string][]string{
	"certs":              nil,
	"protocol":           {"maxControlPayload", "maxFrameHeader", "maxLength16", "maxLength7"},
	"socks":              nil,
	"tunnel":             nil,
	"tunnel/policy":      {"maxSocketPath"}, // it is the system's
	"tunnel/mux":         {"maxRecord", "maxPiece", "maxBlocks"},
	"internal/cli":       nil,
	"internal/cli/flags": nil,
	"internal/logsink":   nil,
	"internal/quota":     nil,
	"internal/status":    nil,

	"internal/status/metrics": nil,
	"internal/state":          nil,
	"internal/status/control": nil,
	"internal/takeover":       nil,
}

// divisors are the constants by which something is divided: the table shows the part.
var divisors = []string{
	"tunnel.quotaExcess", "tunnel.handshakeSourcePart", "tunnel.moveJitter",
	"tunnel/mux/budget.fixedPart",
}

// TestLimits compares docs/limits.md with the constants: each row names one, with its value, and no
// bound is missing.
func TestLimits(t *testing.T) {
	text, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	loader := newConstantLoader()
	labels, listed := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := boundRow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			if strings.HasPrefix(line, "| `") {
				t.Errorf("not a row of the table: %s", line)
			}
			continue
		}
		label, path, name := m[1], m[2], m[3]
		if labels[label] || slices.Contains(m[4:], "") {
			t.Errorf("%s appears twice, or lacks a cell", label)
		}
		labels[label], listed[path+"."+name] = true, true
		value, ok := loader.value(path, name)
		limit, part := strings.CutPrefix(m[5], "1/")
		if part != slices.Contains(divisors, path+"."+name) {
			t.Errorf("%s: the table has %s, but only divisors are parts", label, m[5])
		}
		if want, known := parseLimit(limit); !ok || !known || value != want {
			t.Errorf("%s: the table has %s, and %s.%s is %d", label, m[5], path, name, value)
		}
	}
	if len(labels) < 100 {
		t.Errorf("the table has only %d rows", len(labels))
	}
	for path, others := range boundPackages {
		for _, name := range loader.bounds(t, path) {
			if !listed[path+"."+name] && !slices.Contains(others, name) {
				t.Errorf("docs/limits.md lacks %s.%s", path, name)
			}
		}
	}
}

// parseLimit parses a default: a duration, a percentage, or a number that may have a unit of bytes.
func parseLimit(text string) (int64, bool) {
	if d, err := time.ParseDuration(text); err == nil {
		return int64(d), true
	}
	if percent, ok := strings.CutSuffix(strings.Trim(text, `"`), "%"); ok {
		n, err := strconv.ParseInt(percent, 10, 64)
		return n, err == nil
	}
	digits, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	factor, ok := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]
	return n * factor, ok && err == nil
}

// TestLimitFlags compares the flags in docs/limits.md with the commands' defaults.
func TestLimitFlags(t *testing.T) {
	text, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]string{}
	eachCommand(newApp("test", nil), func(_ string, command *flags.Command) {
		for _, f := range command.Flags() {
			defaults[spell(f.Names()[0])] = f.Default()
		}
	})
	found := 0
	for line := range strings.Lines(string(text)) {
		m := boundRow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || m[4] == "–" {
			continue
		}
		found++
		want, _ := parseLimit(m[5])
		if got, ok := parseLimit(defaults[strings.Trim(m[4], "`")]); !ok || got != want {
			t.Errorf("%s: the table has %s, the flag %q", m[4], m[5],
				defaults[strings.Trim(m[4], "`")])
		}
	}
	if found < 4 {
		t.Errorf("the table has only %d flags", found)
	}
}
