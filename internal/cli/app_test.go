package cli

import (
	"slices"
	"strings"
	"testing"
)

// TestConfigFiles: Windows has no configuration file of the system that is read unasked. Every user
// can create files in %ProgramData%.
func TestConfigFiles(t *testing.T) {
	const system = "/etc/culvert/config.toml"
	programData := t.TempDir()
	t.Setenv("ProgramData", programData)
	if files := configFiles("linux"); !slices.Contains(files, system) {
		t.Errorf("%q without %s", files, system)
	}
	for _, file := range configFiles("windows") {
		if file == system || strings.HasPrefix(file, programData) {
			t.Errorf("%s is read on Windows", file)
		}
	}
}
