package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// golangci builds golangci-lint as lint.sh does, and returns its path.
func golangci(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("../lint.sh")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^golangci_version=(\S+)`).FindSubmatch(script)
	tools, err := filepath.Abs("../../build/tools")
	if err != nil || version == nil {
		t.Fatalf("no version in lint.sh: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "install",
		"github.com/golangci/golangci-lint/v2/cmd/golangci-lint@"+string(version[1]))
	cmd.Env = append(os.Environ(), "GOBIN="+tools, "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return filepath.Join(tools, "golangci-lint")
}

// stubs replace the libraries that the map names.
var stubs = []string{
	"github.com/gorilla/websocket", "github.com/armon/go-socks5", "github.com/urfave/cli/v2",
	"github.com/BurntSushi/toml", "github.com/rogpeppe/go-internal", "go.uber.org/goleak",
}

// imports are files of this project, each with one import that the map allows or forbids.
var imports = []struct {
	file, pkg string
	allowed   bool
}{
	{"main.go", "culvert/internal/cli", true},
	{"main.go", "culvert/internal/cli/flags", false},
	{"main.go", "culvert/tunnel", false},
	{"internal/cli/local.go", "culvert/internal/cli/flags", true},
	{"internal/cli/local.go", "culvert/tunnel/mux", true},
	{"internal/cli/local.go", "culvert/internal/testnet", false},
	{"internal/cli/local.go", "github.com/urfave/cli/v2", false},
	{"internal/cli/local.go", "github.com/gorilla/websocket", false},
	{"internal/cli/flags/set.go", "culvert/internal/cli/exit", true},
	{"internal/cli/flags/set.go", "github.com/urfave/cli/v2", true},
	{"internal/cli/flags/set.go", "github.com/BurntSushi/toml", true},
	{"internal/cli/flags/set.go", "culvert/tunnel", false},
	{"internal/cli/flags/set_test.go", "culvert/tunnel", false},
	{"internal/cli/exit/exit.go", "culvert/internal/cli/flags", false},
	{"tunnel/local.go", "culvert/tunnel/mux", true},
	{"tunnel/local.go", "culvert/protocol", true},
	{"tunnel/local.go", "github.com/gorilla/websocket", true},
	{"tunnel/local.go", "culvert/tunnel/mux/pace", false},
	{"tunnel/local_test.go", "culvert/tunnel/mux/pace", true},
	{"tunnel/local_test.go", "culvert/internal/testnet", true},
	{"tunnel/local.go", "culvert/socks", false},
	{"tunnel/local.go", "culvert/internal/cli/exit", false},
	{"tunnel/local_test.go", "culvert/internal/cli/exit", false},
	{"tunnel/local.go", "testing", false},
	{"tunnel/local.go", "math/rand", false},
	{"tunnel/local.go", "math/rand/v2", true},
	{"tunnel/policy/rule.go", "culvert/certs", true},
	{"tunnel/policy/rule.go", "culvert/tunnel/mux", false},
	{"tunnel/mux/session.go", "culvert/tunnel/mux/pace", true},
	{"tunnel/mux/session.go", "culvert/tunnel", false},
	{"tunnel/mux/session.go", "culvert/tunnel/policy", false},
	{"tunnel/mux/session.go", "culvert/protocol", false},
	{"tunnel/mux/session_test.go", "culvert/protocol", true},
	{"tunnel/mux/session.go", "github.com/gorilla/websocket", false},
	{"tunnel/mux/pace/pace.go", "culvert/tunnel/mux", false},
	{"tunnel/mux/pace/pace.go", "culvert/certs", false},
	{"protocol/client.go", "culvert/certs", true},
	{"protocol/client.go", "github.com/gorilla/websocket", true},
	{"protocol/client.go", "culvert/tunnel/mux", false},
	{"protocol/client_test.go", "culvert/tunnel/mux", false},
	{"protocol/client.go", "culvert/socks", false},
	{"socks/server.go", "culvert/internal/netfault", true},
	{"socks/http_cut.go", "culvert/internal/sendqueue", true},
	{"socks/conn.go", "culvert/internal/clientwatch", true},
	{"socks/http_upload_write.go", "culvert/internal/stall", true},
	{"socks/server.go", "github.com/armon/go-socks5", true},
	{"socks/server.go", "culvert/protocol", false},
	{"socks/server.go", "culvert/internal/cli", false},
	{"socks/server.go", "culvert/internal/cli/flags", false},
	{"socks/server_test.go", "culvert/tunnel", false},
	{"socks/server_test.go", "github.com/gorilla/websocket", true},
	{"socks/server.go", "github.com/gorilla/websocket", false},
	{"certs/key.go", "culvert/internal/secretfile", true},
	{"certs/key.go", "culvert/protocol", false},
	{"certs/key_test.go", "culvert/tunnel", false},
	{"certs/key.go", "github.com/armon/go-socks5", false},
	{"certs/key_test.go", "go.uber.org/goleak", true},
	{"certs/key.go", "go.uber.org/goleak", false},
	{"internal/netfault/errno.go", "culvert/certs", false},
	{"internal/status/control/server.go", "culvert/internal/systemd", true},
	{"internal/status/control/server.go", "culvert/tunnel", false},
	{"internal/status/table/table.go", "culvert/internal/state", true},
	{"internal/status/table/table.go", "culvert/internal/status", false},
	{"internal/testnet/relay.go", "testing", true},
	{"scripts/e2e/a_test.go", "culvert/internal/testnet", true},
}

// rules are files, each with the text of the finding that it must cause, or "" for none.
var rules = map[string]struct{ text, want string }{
	"socks/skip_test.go": {
		"package socks\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Skip(\"no\") " +
			"}\n", "skip itself",
	},
	"socks/skipf_test.go": {
		"package socks\n\nimport \"testing\"\n\nfunc f(tb testing.TB) { tb.Skipf(\"no\") }\n\nvar _ = " +
			"f\n",
		"skip itself",
	},
	"socks/skipnow_test.go": {
		"package socks\n\nimport \"testing\"\n\nfunc FuzzX(f *testing.F) { f.SkipNow() " +
			"}\n", "skip itself",
	},
	"socks/function.go": {
		"package socks\n\nfunc F() {\n" + strings.Repeat("\tprintln()\n", 61) + "}\n", "too long",
	},
	"socks/function60.go": {
		"package socks\n\nfunc F60() {\n" + strings.Repeat("\tprintln()\n", 60) + "}\n", "",
	},
	"socks/function_test.go": {
		"package socks\n\nfunc f61() {\n" + strings.Repeat("\tprintln()\n", 61) +
			"}\n\nvar _ = f61\n", "",
	},
	"socks/file.go":      {"package socks\n" + strings.Repeat("// x\n", 500), "501"},
	"socks/file500.go":   {"package socks\n" + strings.Repeat("// x\n", 499), ""},
	"socks/file_test.go": {"package socks\n" + strings.Repeat("// x\n", 600), ""},
	"socks/wrap.go": {
		"package socks\n\nimport \"fmt\"\n\nfunc W(err error) error { return fmt.Errorf(\"x: %v\", " +
			"err) }\n",
		"non-wrapping",
	},
}

// fixture is a module named culvert with this project's configuration of golangci-lint.
type fixture struct {
	t      *testing.T
	folder string
}

// newFixture creates a fixture with an empty package for each one that the imports name.
func newFixture(t *testing.T) fixture {
	t.Helper()
	f := fixture{t, t.TempDir()}
	config, err := os.ReadFile("../../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	f.write(".golangci.yml", string(config))
	mod := "module culvert\n\ngo 1.26.0\n"
	for i, library := range stubs {
		version := "v0.0.0"
		if strings.HasSuffix(library, "/v2") {
			version = "v2.0.0"
		}
		stub := fmt.Sprintf("stubs/%d", i)
		mod += fmt.Sprintf("\nrequire %[1]s %[2]s\n\nreplace %[1]s => ./%[3]s\n", library, version, stub)
		f.write(stub+"/go.mod", "module "+library+"\n")
		f.write(stub+"/stub.go", "package stub\n")
	}
	f.write("go.mod", mod)
	for _, tt := range imports {
		for _, folder := range []string{path.Dir(tt.file), strings.TrimPrefix(tt.pkg, "culvert/")} {
			if folder != "." && (folder != tt.pkg || folder == path.Dir(tt.file)) {
				f.write(folder+"/doc.go", "package "+path.Base(folder)+"\n")
			}
		}
	}
	return f
}

func (f fixture) write(name, text string) {
	f.t.Helper()
	name = filepath.Join(f.folder, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// finding is what golangci-lint reports.
type finding struct {
	FromLinter, Text string
	Pos              struct{ Filename string }
}

// lint runs golangci-lint on the packages of a folder.
func (f fixture) lint(program, folder string) []finding {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), program, "run", "--output.json.path=stdout",
		"--output.text.path=stderr", "--show-stats=false", "./"+folder)
	cmd.Dir = f.folder
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	var report struct{ Issues []finding }
	if jsonErr := json.Unmarshal(output, &report); jsonErr != nil {
		f.t.Fatalf("%v, %v\n%s%s", err, jsonErr, output, &stderr)
	}
	for _, issue := range report.Issues {
		if issue.FromLinter == "typecheck" {
			f.t.Fatalf("the fixture is not valid: %s: %s", issue.Pos.Filename, issue.Text)
		}
	}
	return report.Issues
}

// golangci-lint enforces the map of docs/architecture.md.
func TestImports(t *testing.T) {
	program := golangci(t)
	files := make(map[string][]string) // the packages that a file imports
	folders := make(map[string]bool)
	for _, tt := range imports {
		files[tt.file] = append(files[tt.file], tt.pkg)
		folders[path.Dir(tt.file)] = true
	}
	for folder := range folders {
		t.Run(folder, func(t *testing.T) {
			f := newFixture(t)
			for file, pkgs := range files {
				if path.Dir(file) != folder {
					continue
				}
				name := path.Base(folder)
				if folder == "." {
					name = "main"
				}
				text := "package " + name + "\n\n"
				for _, pkg := range pkgs {
					text += "import _ \"" + pkg + "\"\n"
				}
				if name == "main" {
					text += "\nfunc main() {}\n"
				}
				f.write(file, text)
			}
			found := f.lint(program, folder)
			for _, tt := range imports {
				if path.Dir(tt.file) != folder {
					continue
				}
				reported := slices.ContainsFunc(found, func(x finding) bool {
					return x.FromLinter == "depguard" && x.Pos.Filename == tt.file &&
						strings.Contains(x.Text, "'"+tt.pkg+"'")
				})
				if reported == tt.allowed {
					t.Errorf("%s imports %s: reported %v", tt.file, tt.pkg, reported)
				}
			}
		})
	}
}

// The other rules of .golangci.yml report violations, and nothing in code that follows them.
func TestGolangciRules(t *testing.T) {
	f := newFixture(t)
	for name, rule := range rules {
		f.write(name, rule.text)
	}
	found := f.lint(golangci(t), "socks")
	for name, rule := range rules {
		var texts []string
		for _, x := range found {
			if x.Pos.Filename == name {
				texts = append(texts, x.Text)
			}
		}
		got := strings.Join(texts, "; ")
		if len(texts) > 1 || (got == "") != (rule.want == "") || !strings.Contains(got, rule.want) {
			t.Errorf("%s: found %q, want %q", name, got, rule.want)
		}
	}
}
