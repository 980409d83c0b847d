package policy

import (
	"errors"
	"testing"
)

func TestReverseRules(t *testing.T) {
	all := []string{
		"tcp:127.0.0.1:8022",
		"tcp:localhost:8022",
		"tcp:[::1]:8022",
		"tcp::8022",
		"tcp:*:8022",
		"tcp:[::]:8022",
		"tcp:0.0.0.0:8022",
		"tcp:192.0.2.1:8022",
		"tcp:[2001:db8::1]:8022",
		"tcp:localhost:0",
		"tcp:localhost:9000",
		"unix:/run/a",
		"udp:localhost:8022",
		"udp:*:8022",
		"udp:localhost:0",
	}
	for _, test := range []struct {
		rules   string
		granted string // a byte for each of all
	}{
		{"localhost:8022", "111.........1.."},
		{"localhost", "111......11.1.1"},
		{"*:8000-8999", "111111111...11."},
		{"*", "11111111111.111"},
		{"127.0.0.1:9000,8022", "11........1.1.."},
		{"0.0.0.0/0:8022", "11....11....1.."},
		{"[::]:8022", "...111.......1."},
		{"[::]/0", "..............."}, // no rule: brackets hold the number of bits too
		{"[::/0]:8022", "..1.....1......"},
		{"[2001:db8::/32]", "........1......"},
		{"192.0.2.0/24", ".......1......."},
		{"unix:/run/a", "...........1..."},
		{"unix:/run/b", "..............."},
	} {
		rules, err := ParseReverseRules([]string{test.rules})
		if (err != nil) != (test.rules == "[::]/0") {
			t.Errorf("%s: %v", test.rules, err)
		}
		got := ""
		for _, text := range all {
			bind, err := ParseBind(text)
			if err != nil {
				t.Fatal(text, err)
			}
			got += map[bool]string{true: "1", false: "."}[rules.Grant(bind)]
		}
		if got != test.granted {
			t.Errorf("%s grants %s, want %s", test.rules, got, test.granted)
		}
	}
	for _, bad := range []string{
		"example.org:8022", "*.example.org", "private", "local*", "8022", "unix:a", "localhost:0",
	} {
		var rule *RuleError
		if _, err := ParseReverseRules([]string{bad}); !errors.As(err, &rule) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
