package protocol

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"culvert/internal/testnet"

	"golang.org/x/sys/unix"
)

// TestSendBuffer: a buffer that is as large as the system makes it is enlarged once TCP has waited,
// as far as the system grants it, and a smaller one is left to the system.
func TestSendBuffer(t *testing.T) {
	most, allowed := largestByItself(t), largestAllowed(t)
	tcp, _ := testnet.TCPPair(t, time.Minute)
	b := &sendBuffer{}

	// On loopback, whose segments are large, the system may begin with the largest one.
	if err := tcp.SetWriteBuffer(most / 8); err != nil {
		t.Fatal(err)
	}
	began := sendBufferOf(t, tcp)
	b.look(tcp, 0)
	b.look(tcp, 10)
	if size := sendBufferOf(t, tcp); began >= most || size != began {
		t.Errorf("a buffer of %d bytes, which may grow to %d by itself, has %d", began, most, size)
	}
	if err := tcp.SetWriteBuffer(most / 2); err != nil { // the system doubles it
		t.Fatal(err)
	}
	largest := sendBufferOf(t, tcp) // less than the most, where the system allows programs less
	b.look(tcp, 10)
	if size := sendBufferOf(t, tcp); size != largest {
		t.Errorf("TCP has not waited again, and a buffer of %d bytes has %d", largest, size)
	}
	b.look(tcp, 20)
	want := largest
	if largest == most {
		want = max(most, min(sendBufferFactor*most, allowed))
	}
	if size := sendBufferOf(t, tcp); size != want {
		t.Errorf("a buffer of %d bytes has %d, want %d", largest, size, want)
	}
	b.look(tcp, 30)
	if size := sendBufferOf(t, tcp); size != want {
		t.Errorf("an enlarged buffer of %d bytes has %d", want, size)
	}
}

// TestSendBufferGranted: a buffer of the size that is granted, and no larger one, is what a socket
// gets.
func TestSendBufferGranted(t *testing.T) {
	allowed := largestAllowed(t)
	for _, size := range []int{64 << 10, allowed, 2 * allowed} {
		if got, want := grantedSendBuffer(size), min(size, allowed); got != want {
			t.Errorf("of %d bytes %d are granted, want %d", size, got, want)
		}
	}
}

// largestByItself returns how large the system makes a send buffer by itself, in bytes.
func largestByItself(t *testing.T) (most int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem")
	if err == nil {
		var least, usual int
		_, err = fmt.Sscan(string(text), &least, &usual, &most)
	}
	if err != nil {
		t.Fatal(err)
	}
	return most
}

// largestAllowed returns how large a program may make a send buffer, in bytes: net.core.wmem_max,
// doubled. That setting can't be read everywhere.
func largestAllowed(t *testing.T) int {
	t.Helper()
	tcp, _ := testnet.TCPPair(t, time.Minute)
	if err := tcp.SetWriteBuffer(1 << 30); err != nil {
		t.Fatal(err)
	}
	return sendBufferOf(t, tcp)
}

// sendBufferOf returns the size of a socket's send buffer, in bytes.
func sendBufferOf(t *testing.T, conn *net.TCPConn) (size int) {
	t.Helper()
	size, err := socketOption(conn, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		t.Fatal(err)
	}
	return size
}
