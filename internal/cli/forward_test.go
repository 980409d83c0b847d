package cli

import (
	"errors"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
)

func TestParseForward(t *testing.T) {
	for _, test := range []struct{ text, listen, target string }{
		{"5353:192.0.2.1:53/udp", "127.0.0.1:5353", "192.0.2.1:53"},
		{"[::]:5353:[::1]:53/udp", "[::]:5353", "[::1]:53"},
		{"*:5353:localhost:53/udp", ":5353", "localhost:53"},
		{"8022:unix:/run/udp", "127.0.0.1:8022", "unix:/run/udp"},
		{"unix:a/udp:localhost:22", "unix:a/udp", "localhost:22"},
		{"8022:localhost:22", "127.0.0.1:8022", "localhost:22"},
		{"0:localhost:22", "127.0.0.1:0", "localhost:22"},
		{"65535:192.0.2.1:65535", "127.0.0.1:65535", "192.0.2.1:65535"},
		{"8022:[2001:db8::1]:22", "127.0.0.1:8022", "[2001:db8::1]:22"},
		{"[::1]:8022:localhost:22", "[::1]:8022", "localhost:22"},
		{"[::]:8022:[::1]:22", "[::]:8022", "[::1]:22"},
		{"192.0.2.1:8022:localhost:22", "192.0.2.1:8022", "localhost:22"},
		{"localhost:8022:localhost:22", "localhost:8022", "localhost:22"},
		{"*:8022:localhost:22", ":8022", "localhost:22"},
		{":8022:localhost:22", ":8022", "localhost:22"},
		{"unix:/run/a.sock:localhost:22", "unix:/run/a.sock", "localhost:22"},
		{"unix:a.sock:[::1]:22", "unix:a.sock", "[::1]:22"},
		{"8022:unix:/run/a.sock", "127.0.0.1:8022", "unix:/run/a.sock"},
		{"*:8022:unix:/run/a.sock", ":8022", "unix:/run/a.sock"},
		{"unix:a.sock:unix:/run/a.sock", "unix:a.sock", "unix:/run/a.sock"},
		{"8022:unix:22", "127.0.0.1:8022", "unix:22"}, // a host of that name
	} {
		got, err := parseForward(test.text)
		udp := strings.HasSuffix(test.text, "53/udp")
		if err != nil || got != (forwardSpec{test.listen, test.target, udp}) {
			t.Errorf("%s: got %+v, %v", test.text, got, err)
		}
	}
	for _, test := range []struct{ text, why string }{
		{"", "wrong number of colons"},
		{"8022", "wrong number of colons"},
		{"8022:localhost", "wrong number of colons"},
		{"a:8022:localhost:22:b", "wrong number of colons"},
		{"8022:2001:db8::1:22", "wrong number of colons"},
		{"8022:[2001:db8::1:22", "brackets don't match"},
		{"8022:[2001:db8::1]x:22", "brackets don't match"},
		{"unix::localhost:22", "the socket's path is empty"},
		{"unix:a.sock:localhost", "the host's port must be 1 to 65535"},
		{"8022:unix:a.sock", "the host's port must be 1 to 65535"},
		{"unix:/a:b:localhost:22", "wrong number of colons"},
		{"port:localhost:22", "the local port must be 0 to 65535"},
		{"-1:localhost:22", "the local port must be 0 to 65535"},
		{"+1:localhost:22", "the local port must be 0 to 65535"},
		{"65536:localhost:22", "the local port must be 0 to 65535"},
		{":localhost:22", "the local port must be 0 to 65535"},
		{"8022::22", "the host is empty"},
		{"8022:localhost:", "the host's port must be 1 to 65535"},
		{"8022:localhost:0", "the host's port must be 1 to 65535"},
		{"8022:localhost:65536", "the host's port must be 1 to 65535"},
		{"8022:localhost:22/tcp", "the host's port must be 1 to 65535"},
		{"8022:localhost:22/udp/udp", "the host's port must be 1 to 65535"},
		{"8022:localhost:/udp", "the host's port must be 1 to 65535"},
		{"8022/udp:localhost:22", "the local port must be 0 to 65535"},
		{"unix:a.sock:localhost:22/udp", "UDP has ports, not sockets with a path"},
	} {
		_, err := parseForward(test.text)
		var failure *exit.Failure
		if !errors.As(err, &failure) || failure.Code != exit.Usage ||
			!strings.HasSuffix(failure.What, test.why) {
			t.Errorf("%q: got %v, want a usage error that ends in: %s", test.text, err, test.why)
		}
	}
}

func TestCheckTarget(t *testing.T) {
	for _, good := range []string{
		"localhost:22", "192.0.2.1:1", "[2001:db8::1]:65535", "unix:/run/a.sock",
	} {
		if err := checkTarget(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "localhost", ":22", "localhost:", "localhost:0", "localhost:65536", "localhost:ssh",
		"::1:22", "[::1]", "unix:a.sock", "unix:",
	} {
		if checkTarget(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
