package socks

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// mutedConn is the server's end of a client that closes its half by closing its end of a pipe. What
// it is told goes to said.
type mutedConn struct {
	halfPipe
	said *syncBuffer
}

func (c mutedConn) Write(p []byte) (int, error) { return c.said.Write(p) }

// TestSlowTargetIsNotStale: a connection that has served before, and is silent for too long, is not
// taken for one that had ended before the request: that isn't sent again.
func TestSlowTargetIsNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		var dials atomic.Int32
		ln := newPipeListener()
		serve(t, newServer(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return halfPipe{near}, nil
		}}), ln)
		client, accepted := net.Pipe()
		said := new(syncBuffer)
		ln.conns <- mutedConn{halfPipe{accepted}, said}
		mustWrite(t, client, getA)
		mustRead(t, far, askedA)
		mustWrite(t, far, okA)
		go func() {
			io.WriteString(client, getA)
			client.Close()
		}()
		mustRead(t, far, askedA)
		time.Sleep(halfClosedTimeout + time.Second) // virtual time
		synctest.Wait()
		answer, ok := strings.CutPrefix(said.String(), okA)
		if n := dials.Load(); !ok || !strings.HasPrefix(answer, "HTTP/1.1 504 ") || n != 1 {
			t.Errorf("%d dials, %q", n, answer)
		}
	})
}

// TestHeadIsNotTaken: a target that doesn't take the head of a request in time gets nothing else,
// and its client is told.
func TestHeadIsNotTaken(t *testing.T) {
	for _, request := range []string{
		getA, postA + "Content-Length: 4\r\n\r\nbody", postA + "Content-Length: 9\r\n\r\nbody",
	} {
		synctest.Test(t, func(t *testing.T) {
			client, far := overPipes(t)
			began := time.Now()
			go io.WriteString(client, request)
			mustRead(t, far, request[:3])
			resp := mustGetResponse(t, bufio.NewReader(client), "GET")
			d := time.Since(began)
			if _, err := io.Copy(io.Discard, far); err != nil || resp.StatusCode != 504 ||
				d != DefaultDialTimeout {
				t.Errorf("%q: %s after %v, then %v", request, resp.Status, d, err)
			}
		})
	}
}
