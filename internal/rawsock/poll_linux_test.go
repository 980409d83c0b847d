package rawsock

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"culvert/internal/testnet"
)

// TestHangUp: a reset shows ahead of what was received before, and so does the end of a Unix
// socket. An end of file alone does not: the peer may still read.
func TestHangUp(t *testing.T) {
	for _, test := range []struct {
		network, how   string
		failed, hungUp bool
	}{
		{"tcp", "stays", false, false},
		{"tcp", "closes its half", false, false},
		{"tcp", "is reset", true, true},
		{"unix", "stays", false, false},
		{"unix", "closes its half", false, false},
		{"unix", "closes", false, true},
	} {
		near, far := testnet.Pair(t, test.network, patience)
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		switch test.how {
		case "closes its half":
			far.(interface{ CloseWrite() error }).CloseWrite()
		case "is reset":
			far.(*net.TCPConn).SetLinger(0)
			far.Close()
		case "closes":
			far.Close()
		}
		raw := SocketOf(near)
		want := func() bool { return HasFailed(raw) == test.failed && HasHungUp(raw) == test.hungUp }
		testnet.Poll(t, patience, test.network+" "+test.how, want)
		if _, err := near.Read(make([]byte, 1)); err != nil {
			t.Errorf("%v: %v instead of the data", test, err)
		}
		if test.how == "stays" {
			continue
		}
		_, err := near.Read(make([]byte, 1))
		if test.failed != errors.Is(err, syscall.ECONNRESET) || !test.failed && err != io.EOF {
			t.Errorf("%v: then %v", test, err)
		}
		if test.how == "closes its half" && !want() { // also once its end has come
			t.Errorf("%v: it has failed, or hung up", test)
		}
	}
}
