package socks

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// leavingConn is the server's end of a client that may leave without being heard: what it has sent
// comes first.
type leavingConn struct {
	net.Conn
	left *atomic.Bool
}

func (c leavingConn) HasLeft() bool { return c.left.Load() }

// startUpload starts an upload of size bytes to a target that has got its beginning, and then reads
// what the test does. Ended reports whether the server has no connection any more.
func startUpload(t *testing.T, size int, behind string) (
	client *bufio.Reader, far net.Conn, left *atomic.Bool, ended func() bool,
) {
	t.Helper()
	near, far := net.Pipe()
	ln, s := newPipeListener(), newServer(t, Config{Dial: dialTo(near)})
	serve(t, s, ln)
	conn, accepted := net.Pipe()
	t.Cleanup(func() { conn.Close() })
	t.Cleanup(func() { far.Close() })
	left = new(atomic.Bool)
	ln.conns <- leavingConn{accepted, left}
	head, body := fmt.Sprintf("Content-Length: %d\r\n\r\n", size), counted(0, size)
	go io.WriteString(conn, postA+head+body+behind)
	mustRead(t, far, gotA+head+body[:2*readBufferSize])
	return bufio.NewReader(conn), far, left, func() bool {
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.conns) == 0
	}
}

// TestUploadOfLostClient: the exchange of a client that has left ends once its target takes nothing
// more of the body, and not as long as it does.
func TestUploadOfLostClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, far, left, ended := startUpload(t, 1<<20, "")
		left.Store(true)
		for range 10 {
			time.Sleep(leftTimeout - 2*leftCheck) // virtual time
			if ended() {
				t.Fatal("the body is cut, and its target takes it")
			}
			if _, err := far.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(leftTimeout + 2*leftCheck) // virtual time
		if !ended() {
			t.Error("the exchange goes on without its client")
		}
		if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the target got %d bytes more, %v", n, err)
		}
	})
}

// TestUploadToHangingTarget: a client that is there may wait for long until its target takes the
// body, but not for ever.
func TestUploadToHangingTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _, _, ended := startUpload(t, 1<<20, "")
		time.Sleep(bodyTimeout - time.Second) // virtual time
		if ended() {
			t.Fatal("given up too early")
		}
		resp := mustGetResponse(t, client, "POST")
		if resp.StatusCode != 504 {
			t.Errorf("answer %s", resp.Status)
		}
		io.Copy(io.Discard, client)
		if !ended() {
			t.Error("the exchange goes on")
		}
	})
}

// TestSilenceBehindPipeline: that a client has gone doesn't show once it has sent more requests
// than are looked at, so its target may not be silent for ever. The next requests go on.
func TestSilenceBehindPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := overPipes(t)
		const n = 200
		go io.WriteString(conn, strings.Repeat(getA, n))
		for range n - 1 {
			mustRead(t, far, askedA)
			time.Sleep(2 * watchDelay) // virtual time
			mustWrite(t, far, okA)
			mustRead(t, conn, okA)
		}
		mustRead(t, far, askedA)
		time.Sleep(2 * halfClosedTimeout) // virtual time: the client is watched again
		mustWrite(t, far, okA)
		mustRead(t, conn, okA)

		go io.WriteString(conn, strings.Repeat(getA, n))
		mustRead(t, far, askedA)
		began := time.Now()
		mustRead(t, conn, "HTTP/1.1 504 ")
		if d := time.Since(began); d < halfClosedTimeout || d > halfClosedTimeout+time.Second {
			t.Errorf("answered after %v", d)
		}
	})
}

// TestUploadCutBehindResponse: a connection whose target has only a part of a body gets no other
// request, though the response has come and the client has sent one behind the body.
func TestUploadCutBehindResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, far, left, _ := startUpload(t, 3*readBufferSize, getA)
		mustRead(t, far, counted(2*readBufferSize, readBufferSize/2))
		if _, err := io.WriteString(far, okA); err != nil {
			t.Fatal(err)
		}
		mustRead(t, client, okA)
		left.Store(true)
		time.Sleep(leftTimeout + 3*leftCheck) // virtual time
		far.SetReadDeadline(time.Now().Add(time.Minute))
		if got, err := io.ReadAll(far); len(got) != 0 || err != nil {
			t.Errorf("behind the part of a body came %.40q, %v", got, err)
		}
	})
}
