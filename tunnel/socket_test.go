package tunnel

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"culvert/tunnel/mux"
)

func TestSocketRules(t *testing.T) {
	for _, test := range []struct {
		allow, deny, line string // rules of the remote, and of the key's line; lists separated by spaces
		socket            string
		want              bool
	}{
		{"", "", "", "/run/a.sock", false},
		{"*", "", "", "/run/a.sock", false},
		{"unix:/run/a.sock", "", "", "/run/a.sock", true},
		{"unix:/run/b.sock", "", "", "/run/a.sock", false},
		{"unix:/run", "", "", "/run/a.sock", false},
		{"* unix:/run/a.sock", "", "", "/run/a.sock", true},
		{"unix:/run/a.sock,unix:/run/b:1", "", "", "/run/b:1", true},
		{"unix:/run/a.sock", "unix:/run/a.sock", "", "/run/a.sock", false},
		{"unix:/run/a.sock", "*", "", "/run/a.sock", true},
		{"", "", "unix:/run/a.sock", "/run/a.sock", true},
		{"", "", "*", "/run/a.sock", false},
		{"unix:/run/a.sock", "", "*", "/run/a.sock", false},
		{"*", "", "unix:/run/a.sock", "/run/a.sock", false},
		{"unix:/run/a.sock", "", "unix:/run/a.sock", "/run/a.sock", true},
	} {
		rules := mustRules(t, strings.Fields(test.allow), strings.Fields(test.deny))
		if test.line != "" {
			narrow, err := parseRules(strings.Fields(test.line))
			if err != nil {
				t.Fatal(err)
			}
			rules = rules.narrow(narrow)
		}
		if got := rules.allowsSocket(test.socket); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	if (*Rules)(nil).allowsSocket("/run/a.sock") {
		t.Error("no rules allow a socket")
	}
	// A rule for a socket allows no host.
	if got := resolve(t, mustRules(t, []string{"unix:/run/a.sock"}, nil), "tcp", "example.org", 80); got != "denied" {
		t.Errorf("a host: %s", got)
	}
	for _, bad := range []string{"unix:", "unix:run/a.sock", "unix:/run/../a.sock", "unix://run", "unix:/run/", "unix:/a,80", "unix:/a\x00b"} {
		var malformed *RuleError
		if _, err := ParseRules([]string{bad}, nil); !errors.As(err, &malformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDialTargetUnix(t *testing.T) {
	folder := t.TempDir()
	socket, stale, missing := filepath.Join(folder, "s"), filepath.Join(folder, "stale"), filepath.Join(folder, "missing")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	rules := mustRules(t, []string{"unix:" + socket, "unix:" + stale, "unix:" + missing}, nil)
	for _, test := range []struct {
		rules *Rules
		path  string
		want  mux.Code
	}{
		{rules, stale, mux.CodeRefused},
		{rules, missing, mux.CodeNameNotFound},
		{rules, folder + "/other", mux.CodeNotAllowed},
		{nil, socket, mux.CodeNotAllowed},
		{rules, folder + "/x/../s", mux.CodeBadTarget},
		{rules, "s", mux.CodeBadTarget},
		{rules, "", mux.CodeBadTarget},
	} {
		_, err := dialTarget(t.Context(), test.rules, mux.Target{Kind: mux.StreamUnix, Address: test.path})
		if err == nil || dialCode(err) != test.want {
			t.Errorf("%s: %v, want %v", test.path, err, test.want)
		}
	}
	conn, err := dialTarget(t.Context(), rules, mux.Target{Kind: mux.StreamUnix, Address: socket})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := dialTarget(t.Context(), rules, mux.Target{Kind: 99, Address: socket}); dialCode(err) != mux.CodeBadTarget {
		t.Errorf("an unknown kind: %v", err)
	}
}

func TestStreamTarget(t *testing.T) {
	for text, want := range map[string]mux.Target{
		"localhost:22":   {Kind: mux.StreamTCP, Address: "localhost:22"},
		"unix:22":        {Kind: mux.StreamTCP, Address: "unix:22"},
		"unix:/run/sock": {Kind: mux.StreamUnix, Address: "/run/sock"},
	} {
		if got := streamTarget(text); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
