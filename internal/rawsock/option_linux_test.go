package rawsock

import (
	"errors"
	"testing"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

// withSocket calls f with the descriptor of a new connection.
func withSocket(t *testing.T, f func(fd uintptr)) {
	t.Helper()
	near, _ := testnet.TCPPair(t, patience)
	if err := SocketOf(near).Control(f); err != nil {
		t.Fatal(err)
	}
}

// TestSetInt: an option has the value that was set, and an unknown one is the system's error.
func TestSetInt(t *testing.T) {
	withSocket(t, func(fd uintptr) {
		for _, want := range []int{5000, 1} {
			if err := SetInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, want); err != nil {
				t.Error(err)
			}
			got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT)
			if err != nil || got != want {
				t.Errorf("%d, %v, want %d", got, err, want)
			}
		}
		if err := SetInt(fd, unix.SOL_SOCKET, 9999, 1); !errors.Is(err, unix.ENOPROTOOPT) {
			t.Errorf("an unknown option: %v", err)
		}
	})
}

// TestTCPInfo compares with what package unix reads, and a socket of another kind has none.
func TestTCPInfo(t *testing.T) {
	withSocket(t, func(fd uintptr) {
		got, err := TCPInfo(fd)
		if err != nil {
			t.Fatal(err)
		}
		want, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if got.Snd_mss == 0 || got.Snd_mss != want.Snd_mss || got.Min_rtt != want.Min_rtt ||
			got.Snd_wnd != want.Snd_wnd {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
	near, _ := testnet.Pair(t, "unix", patience)
	if err := SocketOf(near).Control(func(fd uintptr) {
		if info, err := TCPInfo(fd); err == nil {
			t.Errorf("a unix socket has %+v", info)
		}
	}); err != nil {
		t.Error(err)
	}
}
