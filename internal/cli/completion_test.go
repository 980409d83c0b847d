package cli

import (
	"slices"
	"strings"
	"testing"

	"culvert/internal/cli/flags"
)

// TestCandidatesOfAll completes each flag of each command by its whole name.
func TestCandidatesOfAll(t *testing.T) {
	eachCommand(newApp("test", nil), func(name string, command *flags.Command) {
		for _, f := range command.Flags() {
			flag := spell(f.Names()[0])
			app := newApp("test", nil)
			var printed strings.Builder
			app.Stdout = &printed
			args := append(append([]string{"culvert", "__complete"}, command.Path()...), flag)
			if err := app.Run(t.Context(), args); err != nil {
				t.Fatal(err)
			}
			offered := slices.ContainsFunc(strings.Split(printed.String(), "\n"), func(s string) bool {
				word, meaning, _ := strings.Cut(s, "\t")
				return word == flag && meaning != ""
			})
			if !offered {
				t.Errorf("%s: %s is not offered, or lacks a meaning", name, flag)
			}
		}
	})
}
