package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestVersion prints what a build's information has, in the forms that it comes in.
func TestVersion(t *testing.T) {
	system := "go       " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "\n"
	settings := []debug.BuildSetting{
		{Key: "-buildmode", Value: "exe"},
		{Key: "-ldflags", Value: "-X main.version=v1"},
		{Key: "-trimpath", Value: "true"},
		{Key: "CGO_ENABLED", Value: "0"},
		{Key: "GOARCH", Value: "amd64"},
		{Key: "GOAMD64", Value: "v1"},
		{Key: "vcs.revision", Value: "0123abc"},
		{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
	}
	built := "built    -buildmode=exe -trimpath=true CGO_ENABLED=0 GOAMD64=v1\n"
	dirty := append(settings[:len(settings):len(settings)],
		debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	for _, test := range []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"no modules", nil, "culvert v1\n" + system},
		{"no checkout", &debug.BuildInfo{Settings: settings[:6]}, "culvert v1\n" + system + built},
		{"commit", &debug.BuildInfo{Settings: settings},
			"culvert v1\ncommit   0123abc 2026-01-02T03:04:05Z\n" + system + built},
		{"changed", &debug.BuildInfo{Settings: dirty},
			"culvert v1\ncommit   0123abc-dirty 2026-01-02T03:04:05Z\n" + system + built},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := describeBuild("v1", test.info); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}
