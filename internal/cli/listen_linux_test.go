package cli

import (
	"net"
	"testing"

	"culvert/internal/testnet"
	"culvert/tunnel/policy"
)

// TestKeepAlive: a client that the system has forgotten is noticed, also on this machine.
func TestKeepAlive(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		ln, err := listen(address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle, err := testnet.KeepAlive(conn)
		if err != nil || idle <= 0 || idle > policy.LoopbackKeepAlive().Idle {
			t.Errorf("%s: the client is probed after %v, %v", address, idle, err)
		}
	}
}
