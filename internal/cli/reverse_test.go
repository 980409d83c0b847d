package cli

import (
	"errors"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
)

func TestParseReverse(t *testing.T) {
	for _, test := range []struct{ text, listen, target string }{
		{"8022:localhost:22", "localhost:8022", "localhost:22"},
		{"0:localhost:22", "localhost:0", "localhost:22"},
		{"8022:[2001:db8::1]:22", "localhost:8022", "[2001:db8::1]:22"},
		{"[::1]:8022:localhost:22", "[::1]:8022", "localhost:22"},
		{"*:8022:localhost:22", "*:8022", "localhost:22"},
		{":8022:localhost:22", "*:8022", "localhost:22"},
		{"8022:unix:/run/a.sock", "localhost:8022", "unix:/run/a.sock"},
		{"unix:/run/a.sock:localhost:22", "unix:/run/a.sock", "localhost:22"},
		{"unix:/run/a.sock:unix:/run/b.sock", "unix:/run/a.sock", "unix:/run/b.sock"},
		{"8022:unix:/run/udp", "localhost:8022", "unix:/run/udp"},
		{"5353:192.0.2.1:53/udp", "localhost:5353", "192.0.2.1:53"},
		{"*:5353:[::1]:53/udp", "*:5353", "[::1]:53"},
		{"[::1]:0:localhost:53/udp", "[::1]:0", "localhost:53"},
		{"1080:socks", "localhost:1080", ""},
		{"*:1080:socks", "*:1080", ""},
		{"unix:/run/a.sock:socks", "unix:/run/a.sock", ""},
	} {
		got, err := parseReverse(test.text)
		udp := strings.HasSuffix(test.text, "53/udp")
		if err != nil || got != (reverseSpec{test.listen, test.target, udp}) {
			t.Errorf("%s: got %+v, %v", test.text, got, err)
		}
	}
	for _, test := range []struct{ text, why string }{
		{"", "wrong number of colons"},
		{"8022", "wrong number of colons"},
		{"socks", "wrong number of colons"},
		{"8022:localhost", "wrong number of colons"},
		{"a:b:1080:socks", "wrong number of colons"},
		{"a:8022:localhost:22:b", "the host's port must be 1 to 65535"},
		{"8022:[::1:22", "brackets don't match"},
		{"unix:a.sock:localhost:22", "the path of the remote's socket is not absolute"},
		{"unix:a.sock:socks", "the path of the remote's socket is not absolute"},
		{"example.org:8022:localhost:22", "BIND must be an address, localhost or *"},
		{"port:localhost:22", "the remote's port must be 0 to 65535"},
		{"65536:socks", "the remote's port must be 0 to 65535"},
		{"8022:localhost:22/tcp", "the host's port must be 1 to 65535"},
		{"8022:localhost:/udp", "the host's port must be 1 to 65535"},
		{"8022/udp:localhost:22", "the remote's port must be 0 to 65535"},
		{"1080:socks/udp", "wrong number of colons"},
		{"unix:/run/a.sock:localhost:53/udp", "UDP has ports, not sockets with a path"},
	} {
		_, err := parseReverse(test.text)
		var failure *exit.Failure
		if !errors.As(err, &failure) || failure.Code != exit.Usage ||
			!strings.HasSuffix(failure.What, test.why) {
			t.Errorf("%q: got %v, want a usage error that ends in: %s", test.text, err, test.why)
		}
	}
}
