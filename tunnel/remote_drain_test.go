package tunnel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/takeover"
)

// lastingPredecessor is a process that doesn't end, so that a remote drains for as long as it may.
type lastingPredecessor struct{}

func (lastingPredecessor) Owns(string) bool                   { return false }
func (lastingPredecessor) Routes(func(string, bool)) []string { return nil }
func (lastingPredecessor) Pass(net.Conn, takeover.Conn) error { return net.ErrClosed }
func (lastingPredecessor) Done() <-chan struct{}              { return nil }

// visitor has a connection to a remote in a bubble.
type visitor struct {
	net.Conn
	answers *bufio.Reader
}

func newVisitor(ln *pipeListener) visitor {
	conn := ln.dial("192.0.2.1")
	return visitor{conn, bufio.NewReader(conn)}
}

// get sends a request, and returns its status and whether the connection stays.
func (v visitor) get(t *testing.T, request string) string {
	t.Helper()
	v.SetDeadline(time.Now().Add(time.Minute)) // longer than any bound of the remote
	if _, err := io.WriteString(v, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(v.answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d close=%v", response.StatusCode, response.Close)
}

// ended reports whether the remote has closed the connection.
func (v visitor) ended() bool {
	v.SetDeadline(time.Now().Add(time.Second))
	_, err := v.answers.ReadByte()
	return err == io.EOF
}

// TestVisitorsWhileDraining: until a remote that drains has ended, also one that was taken over,
// visitors see the fallback site, and their connections are closed behind that, so that the next
// ones lead to where new clients belong. What they have begun is cut at the end.
func TestVisitorsWhileDraining(t *testing.T) {
	for name, takenOver := range map[string]bool{"stopped": false, "taken over": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, echoSite, func(t *testing.T, remote *Remote, ln *pipeListener) {
				remote.mu.Lock()
				remote.moving.predecessor = lastingPredecessor{}
				remote.mu.Unlock()
				visitors := make([]visitor, 5)
				for i := range visitors {
					visitors[i] = newVisitor(ln)
				}
				page, idle, path, upgrade, slow := visitors[0], visitors[1], visitors[2], visitors[3],
					visitors[4]
				idle.get(t, getPage)
				if takenOver {
					remote.HandOver(&fakeSuccessor{})
					remote.ReleaseListeners()
					if got := idle.get(t, getPage); got != "200 close=false" {
						t.Errorf("a page before the drain: %s", got)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), DefaultDrainTimeout/2)
				defer cancel()
				stopped := make(chan int)
				go func() {
					remote.Shutdown(ctx)
					stopped <- remote.fallback.places.taken()
				}()
				synctest.Wait()
				for _, c := range []struct {
					visitor
					request, want string
				}{
					{page, getPage, "200 close=true"},
					{idle, getPage, "200 close=true"},
					{path, strings.Replace(getPage, "/", "/tunnel", 1), "200 close=true"},
					{upgrade, getUpgrade, "503 close=true"},
					{slow, slowUpload, "502 close=true"}, // once the remote ends
				} {
					if got := c.get(t, c.request); got != c.want {
						t.Errorf("%s: %s, want %s", c.request, got, c.want)
					}
					if !c.ended() {
						t.Errorf("%s: its connection is open", c.request)
					}
				}
				if n := <-stopped; n != 0 {
					t.Errorf("%d visits have outlived the remote", n)
				}
			})
		})
	}
}
