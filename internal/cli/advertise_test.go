package cli

import (
	"net"
	"strings"
	"testing"

	"culvert/certs"
)

// addressed is a listener with an address.
type addressed struct {
	net.Listener
	addr net.Addr
}

func (l addressed) Addr() net.Addr { return l.addr }

func TestPasteLine(t *testing.T) {
	key, err := certs.ParsePublicKey(someKey)
	if err != nil {
		t.Fatal(err)
	}
	tcp := func(text string) net.Addr {
		addr, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	for _, test := range []struct {
		path, advertise string
		secure          bool
		addresses       []net.Addr
		url             string
	}{
		{"/", "", false, []net.Addr{tcp("127.0.0.1:1"), tcp("192.0.2.1:8080")},
			"ws://192.0.2.1:8080/"},
		{"/a b", "", true, []net.Addr{tcp("[2001:db8::1]:443")}, "wss://[2001:db8::1]:443/a%20b"},
		{"/it's", "", false, []net.Addr{tcp("192.0.2.1:80")}, "ws://192.0.2.1:80/it%27s"},
		{"/", "wss://exit.example.org", false, []net.Addr{tcp("127.0.0.1:1")},
			"wss://exit.example.org/"},
		{"/", "wss://exit.example.org/it's", true, nil, `wss://exit.example.org/it'\''s`},
		{"/", "", false, []net.Addr{tcp("127.0.0.1:1"), tcp("[::1]:1"),
			&net.UnixAddr{Name: "socket", Net: "unix"}}, ""},
	} {
		o := &listenOptions{path: test.path, advertise: test.advertise}
		var listeners []net.Listener
		for _, addr := range test.addresses {
			listeners = append(listeners, addressed{addr: addr})
		}
		want := ""
		if test.url != "" {
			want = "culvert local '" + test.url + "#" + someKey + "'"
		}
		if got := o.pasteLine(listeners, test.secure, key); got != want {
			t.Errorf("%+v: got %s", test, got)
		}
	}
	// An unspecified address is one of the machine's, if it has any but loopback.
	all := []net.Listener{addressed{addr: tcp("[::]:8080")}}
	got := (&listenOptions{path: "/"}).pasteLine(all, false, key)
	own := ownAddress()
	if (own == nil) != (got == "") || own != nil && !strings.Contains(got, own.String()) {
		t.Errorf("own address %v: got %q", own, got)
	}
}
