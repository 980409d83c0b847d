package socks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
)

// refusedLater is a connection to a target that fails after the first write, or before.
type refusedLater struct {
	net.Conn
	err     error
	written chan struct{} // closed when the target's answer is there
	once    *sync.Once    // closes it; nil when it was closed from the start
}

func (c refusedLater) Read([]byte) (int, error) {
	<-c.written
	return 0, c.err
}

func (c refusedLater) Write(p []byte) (int, error) {
	if c.once == nil {
		return 0, c.err
	}
	c.once.Do(func() { close(c.written) })
	return len(p), nil
}

// TestUnreachedAfterDial: a target that can't be reached after its Dialer has
// returned has the status that it has when the Dialer waits.
func TestUnreachedAfterDial(t *testing.T) {
	for _, early := range []bool{false, true} { // the answer comes before the request is written
		for name, head := range map[string]string{
			"GET": "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
			"POST": "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: " +
				"4\r\n\r\nbody",
			"half POST": "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: " +
				"1000000\r\n\r\nbody",
			"WebSocket": "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: " +
				"Upgrade\r\nUpgrade: websocket\r\n\r\n",
		} {
			unreached := fmt.Errorf("no route: %w", syscall.EHOSTUNREACH)
			conn := connect(t, startServer(t, Config{
				Dial: func(context.Context, string, string) (net.Conn, error) {
					near, _ := tcpPair(t)
					c := refusedLater{near, unreached, make(chan struct{}), new(sync.Once)}
					if early {
						close(c.written)
						c.once = nil
					}
					return c, nil
				},
				Unreached: func(err error) bool { return errors.Is(err, unreached) },
				Classify: func(err error) Reply {
					if !errors.Is(err, unreached) {
						t.Errorf("%s: classified %v", name, err)
					}
					return ReplyNotAllowed
				},
			}))
			mustWrite(t, conn, head)
			resp := mustGetResponse(t, bufio.NewReader(conn), "GET")
			if body, err := io.ReadAll(resp.Body); resp.StatusCode != 403 ||
				string(body) != "a.test:80: not allowed\n" || err != nil {
				t.Errorf("%s, early %v: %s, %q, %v", name, early, resp.Status, body, err)
			}
		}
	}
}
