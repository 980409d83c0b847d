package tunnel

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]struct{ url, name string }{
		"ws://example.org:8080/":      {"ws://example.org:8080/", "example.org:8080"},
		"ws://example.org":            {"ws://example.org/", "example.org:80"},
		"wss://example.org/tunnel":    {"wss://example.org/tunnel", "example.org:443/tunnel"},
		"https://example.org/":        {"wss://example.org/", "example.org:443"},
		"http://[2001:db8::1]:8080/x": {"ws://[2001:db8::1]:8080/x", "[2001:db8::1]:8080/x"},
		"example.org:8080":            {"ws://example.org:8080/", "example.org:8080"},
		"ws://EXAMPLE.org./Path":      {"ws://EXAMPLE.org./Path", "example.org:80/Path"},
		"127.0.0.1:8080/a?b=c":        {"ws://127.0.0.1:8080/a?b=c", "127.0.0.1:8080/a"},
	} {
		address, err := ParseAddress(text)
		if err != nil || address.String() != want.url || address.Name() != want.name {
			t.Errorf("%s: %s, %s, %v", text, address, address.Name(), err)
		}
	}
	for _, text := range []string{
		"", "ftp://example.org/", "ws://", "ws://user:secret@example.org/",
		"ws://example.org/#x", "ws://exa mple/",
	} {
		if address, err := ParseAddress(text); err == nil {
			t.Errorf("%q was taken for %s", text, address)
		}
	}
}

// The error for a URL that is refused does not disclose its password.
func TestAddressErrorsHidePasswords(t *testing.T) {
	for _, text := range []string{
		"ws://alice:secret@example.org/", "alice:secret@example.org", "ftp://alice:secret@example.org/",
		"ws://alice:sec%ret@example.org/", "ws://alice:secret@example.org/#x", "ws://alice:secret@",
	} {
		if _, err := ParseAddress(text); err == nil || strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
