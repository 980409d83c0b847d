package clientwatch

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bufferSize = 16

var errReset = errors.New("reset")

// failingConn fails with err in place of an end of file.
type failingConn struct {
	net.Conn
	err error
}

func (c failingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = c.err
	}
	return n, err
}

// Whether and when a client is gone depends on what it has sent and how it ends.
func TestGone(t *testing.T) {
	const delay, closedWait, dial = 5 * time.Millisecond, 5 * time.Second, time.Minute
	for _, test := range []struct {
		sent       string
		end        error // nil for a client that stays
		closedWait time.Duration
		gone       time.Duration // since the start; negative if it is not
		want       error         // of Stop
	}{
		{"", nil, 0, -1, nil},
		{"early", nil, 0, -1, nil},
		{"", io.EOF, 0, delay, io.EOF},
		{"", io.EOF, closedWait, delay + closedWait, io.EOF},
		{"", io.EOF, -1, -1, io.EOF},
		{"", errReset, 0, delay, errReset},
		{"", errReset, closedWait, delay, errReset},
		{"", errReset, -1, delay, errReset},
		{"early", io.EOF, 0, -1, io.EOF},
		{"early", errReset, 0, -1, errReset},
		{"early", errReset, -1, -1, errReset},
		{strings.Repeat("x", bufferSize), errReset, 0, -1, nil}, // the watch has ended before
	} {
		synctest.Test(t, func(t *testing.T) {
			client, other := net.Pipe()
			defer client.Close()
			defer other.Close()
			conn := failingConn{client, test.end}
			in := bufio.NewReaderSize(conn, bufferSize)
			began, gone := time.Now(), new(atomic.Int64)
			gone.Store(-1)
			w := Start(conn, in, Policy{Delay: delay, ClosedWait: test.closedWait}, func(err error) {
				if err != test.end {
					t.Errorf("%+v: gone because of %v", test, err)
				}
				gone.Store(int64(time.Since(began)))
			})
			io.WriteString(other, test.sent)
			if test.end != nil {
				other.Close()
			}
			time.Sleep(dial)
			err, after := w.Stop(), time.Duration(gone.Load())
			if err != test.want || after != test.gone {
				t.Errorf("%+v: gone after %v, %v", test, after, err)
			}
			if early, _ := in.Peek(in.Buffered()); string(early) != test.sent {
				t.Errorf("%+v: %q is kept", test, early)
			}
		})
	}
}

// A dial that is over in time isn't watched, and after Stop nobody is told, and the connection can
// be read from.
func TestStop(t *testing.T) {
	for _, dial := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			client, other := net.Pipe()
			defer client.Close()
			defer other.Close()
			in := bufio.NewReaderSize(client, bufferSize)
			w := Start(client, in, Policy{Delay: time.Millisecond}, func(error) {
				t.Error("told after Stop")
			})
			time.Sleep(dial)
			if err := w.Stop(); err != nil {
				t.Error(err)
			}
			go func() {
				io.WriteString(other, "later")
				other.Close()
			}()
			if got, err := io.ReadAll(in); err != nil || string(got) != "later" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}
