package rawsock

import (
	"crypto/tls"
	"net"
	"testing"

	"culvert/internal/testnet"
)

// TestTCPOf: a TCP connection is found under others, and in nothing else.
func TestTCPOf(t *testing.T) {
	tcp, _ := testnet.TCPPair(t, patience)
	pipe, _ := net.Pipe()
	defer pipe.Close()
	for name, test := range map[string]struct {
		conn net.Conn
		want *net.TCPConn
	}{
		"itself":       {tcp, tcp},
		"under TLS":    {tls.Client(tcp, nil), tcp},
		"twice":        {tls.Client(tls.Client(tcp, nil), nil), tcp},
		"another kind": {pipe, nil},
		"none":         {nil, nil},
	} {
		if got := TCPOf(test.conn); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
