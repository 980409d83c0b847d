package tunnel

import (
	"bytes"
	"errors"
	"testing"

	"culvert/tunnel/policy"
)

func TestEndpoints(t *testing.T) {
	for _, test := range []struct {
		host string
		port uint16
		want string
	}{
		{"192.0.2.1", 53, "\x01\xc0\x00\x02\x01\x00\x35"},
		{"::ffff:192.0.2.1", 53, "\x01\xc0\x00\x02\x01\x00\x35"},
		{"2001:db8::1", 443,
			"\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"},
		{"example.org", 65535, "\x03\x0bexample.org\xff\xff"},
	} {
		e, err := newEndpoint(test.host, test.port)
		if err != nil {
			t.Fatal(err)
		}
		b := e.append(nil)
		if string(b) != test.want || len(b) != e.size() {
			t.Errorf("%s: got %q of %d bytes", test.host, b, e.size())
		}
		parsed, payload, err := parseEndpoint(append(b, "payload"...))
		if err != nil || parsed != e || string(payload) != "payload" {
			t.Errorf("%q: parsed as %v, %q, %v", b, parsed, payload, err)
		}
		for n := range b {
			if _, _, err := parseEndpoint(b[:n]); !errors.Is(err, policy.ErrBadTarget) {
				t.Errorf("%q: %v", b[:n], err)
			}
		}
	}
	for _, bad := range []string{
		"\x02\x00\x00\x00\x00\x00\x35", "\x03\x00\x00\x35", "\x01\xc0\x00\x02\x01\x00\x00",
	} {
		if _, _, err := parseEndpoint([]byte(bad)); !errors.Is(err, policy.ErrBadTarget) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzEndpoint checks that any bytes parse to an endpoint that is encoded as the same bytes, or to
// an error.
func FuzzEndpoint(f *testing.F) {
	f.Add([]byte("\x01\xc0\x00\x02\x01\x00\x35payload"))
	f.Add([]byte("\x03\x0bexample.org\xff\xff"))
	f.Add([]byte("\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"))
	f.Add([]byte("\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01\x01\xbb"))
	f.Fuzz(func(t *testing.T, p []byte) {
		e, payload, err := parseEndpoint(p)
		if err != nil {
			return
		}
		again, rest, err := parseEndpoint(append(e.append(nil), payload...))
		if err != nil || again != e || !bytes.Equal(rest, payload) ||
			e.size() > len(p)-len(payload) {
			t.Errorf("%q: %v, then %v, %q, %v", p, e, again, rest, err)
		}
	})
}
