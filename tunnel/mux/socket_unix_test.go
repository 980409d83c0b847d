//go:build unix

package mux

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadVector compares the two ways to read into several buffers: both fill them in order, stop
// where there is no more, and report an empty socket and the end of file.
func TestReadVector(t *testing.T) {
	for name, read := range map[string]func(int, [][]byte) (int, error){
		"readv": readVector,
		"each": func(fd int, vector [][]byte) (int, error) {
			return readEach(fd, vector, unix.Read)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachSocket(t, func(t *testing.T, near, far net.Conn) { testReadVector(t, near, far, read) })
		})
	}
}

func testReadVector(t *testing.T, near, far net.Conn, read func(int, [][]byte) (int, error)) {
	raw, _ := socketOf(near)
	for _, sent := range []string{"x", "1234", "12345678", "1234567890", "123456789012"} {
		if _, err := far.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		vector := [][]byte{make([]byte, 4), make([]byte, 4), make([]byte, 4)}
		n, empty := -1, errors.New("not called")
		err := raw.Read(func(fd uintptr) bool {
			var err error
			if n, err = read(int(fd), vector); err == unix.EAGAIN {
				return false
			}
			if err != nil {
				t.Error(err)
			}
			_, empty = read(int(fd), [][]byte{make([]byte, 4), make([]byte, 4)})
			return true
		})
		if err != nil || empty != unix.EAGAIN {
			t.Fatalf("%q: %v; an empty socket gives %v", sent, err, empty)
		}
		got := string(vector[0]) + string(vector[1]) + string(vector[2])
		if n != len(sent) || strings.TrimRight(got, "\x00") != sent {
			t.Errorf("got %d bytes of %q, want %q", n, got, sent)
		}
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	err := raw.Read(func(fd uintptr) bool {
		n, err := read(int(fd), [][]byte{make([]byte, 4), make([]byte, 4)})
		if err == unix.EAGAIN {
			return false
		}
		if n != 0 || err != nil {
			t.Errorf("at the end: %d, %v", n, err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadEachTellsReset: where the system reports a reset once, it isn't lost behind data.
func TestReadEachTellsReset(t *testing.T) {
	for name, test := range map[string]struct {
		second error
		n      int
		err    error
	}{
		"reset":       {unix.ECONNRESET, 4, unix.ECONNRESET},
		"nothing":     {unix.EAGAIN, 4, nil},
		"interrupted": {unix.EINTR, 4, nil},
		"end of file": {nil, 4, nil},
	} {
		calls := 0
		vector := [][]byte{make([]byte, 4), make([]byte, 4)}
		n, err := readEach(0, vector, func(_ int, p []byte) (int, error) {
			if calls++; calls == 1 {
				return len(p), nil
			}
			if test.second != nil {
				return -1, test.second
			}
			return 0, nil
		})
		if n != test.n || err != test.err {
			t.Errorf("%s: %d, %v, want %d, %v", name, n, err, test.n, test.err)
		}
	}
}
