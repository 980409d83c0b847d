package systemd

import "testing"

// TestFirstFolder: systemd joins paths with colons, which it doesn't escape in the name of an
// instance.
func TestFirstFolder(t *testing.T) {
	for list, want := range map[string]string{
		"":                              "",
		"/var/lib/a":                    "/var/lib/a",
		"/var/lib/a:/var/lib/b":         "/var/lib/a",
		"/var/lib/wss:--a.example-t":    "/var/lib/wss:--a.example-t",
		"/var/lib/a.example:443:/srv/b": "/var/lib/a.example:443",
		"relative":                      "",
	} {
		t.Setenv("STATE_DIRECTORY", list)
		if got := StateFolder(); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}
