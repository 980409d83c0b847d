package flags

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOptionalDuration gives the flag in each way that there is, among others.
func TestOptionalDuration(t *testing.T) {
	const bare = -1
	for _, test := range []struct {
		args, variable, file string
		want                 time.Duration
		err                  string
	}{
		{args: "URL", want: 0},
		{args: "--wait URL", want: bare},
		{args: "URL --wait", want: bare},
		{args: "-w URL", want: bare},
		{args: "--wait --other 1s URL", want: bare},
		{args: "--wait=5m URL", want: 5 * time.Minute},
		{args: "URL --wait=1.5s", want: 1500 * time.Millisecond},
		{args: "--wait=true URL", want: bare},
		{args: "--wait=false URL", variable: "true", want: 0},
		{args: "URL", variable: "true", want: bare},
		{args: "URL", variable: "7s", want: 7 * time.Second},
		{args: "--wait=5m URL", variable: "7s", want: 5 * time.Minute},
		{args: "URL", file: "wait = true", want: bare},
		{args: "URL", file: "wait = '8s'", want: 8 * time.Second},
		{args: "--wait URL", file: "wait = '8s'", want: bare},
		{args: "--wait 5m URL", err: "--wait takes its duration after =, as in --wait=5m"},
		{args: "URL --wait 5m", err: "as in --wait=5m"},
		{args: "--wait 0 URL", err: "as in --wait=0"},
		{args: "--wait=0s URL", err: `bad --wait "0s": want a duration as in "5m"`},
		{args: "--wait=-1s URL", err: `bad --wait "-1s"`},
		{args: "--wait=soon URL", err: `bad --wait "soon"`},
		{args: "--wait= URL", err: `bad --wait ""`},
		{args: "URL", variable: "soon", err: "soon"},
		{args: "URL", file: "wait = 5", err: `want true or a duration as in "5m"`},
		{args: "URL", file: "wait = 'soon'", err: `want true or a duration as in "5m"`},
	} {
		var got, other time.Duration
		var url string
		app := NewApp("culvert", "test", "v0", &Command{
			Name: "local", Run: func(context.Context) error { return nil },
			Define: func(s *Set) {
				s.Argument("URL", func(text string) error { url = text; return nil })
				s.OptionalDuration(&got, "wait,w", bare, "wait")
				s.Duration(&other, "other", 0, "other")
			},
		})
		t.Setenv("CULVERT_WAIT", test.variable)
		args := append([]string{"culvert", "local"}, strings.Fields(test.args)...)
		if test.file != "" {
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--config", path)
		}
		err := app.Run(t.Context(), args)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%+v: got %v", test, err)
			}
		case err != nil || got != test.want || url != "URL":
			t.Errorf("%+v: got %v, URL %q, %v", test, got, url, err)
		}
	}
}
