package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/internal/takeover"
	"culvert/internal/testnet"
)

// fakeSuccessor is a process that takes over.
type fakeSuccessor struct {
	mu     sync.Mutex
	routes []string
}

func (f *fakeSuccessor) Claim(uint64) bool { return true }

func (f *fakeSuccessor) Route(name string, here bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if here {
		f.routes = append(f.routes, name)
	} else {
		f.routes = slices.DeleteFunc(f.routes, func(known string) bool { return known == name })
	}
}

func (f *fakeSuccessor) known() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.routes)
}

// TestTakeBack checks that a remote accepts nothing between HandOver and TakeBack, and refuses
// nothing: connections wait. Meanwhile it serves what it is passed, and reports its sessions.
func TestTakeBack(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), nil)
	ln := testnet.Listen(t)
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { remote.Serve(ctx, ln) })
	defer func() {
		stop()
		testnet.Await(t, patience, serving.Wait)
	}()
	asks(t, ln.Addr().String()) // Serve has begun

	to := &fakeSuccessor{}
	if state := remote.HandOver(to); len(state.Routes) != 0 || len(state.Replay.Key) == 0 {
		t.Errorf("state %+v", state)
	}
	waiting := testnet.Dial(t, ln.Addr().String(), patience)
	if _, err := io.WriteString(waiting, plainRequest); err != nil {
		t.Fatal(err)
	}
	waiting.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := waiting.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after HandOver a client is answered: %d bytes, %v", n, err)
	}
	near, far := net.Pipe()
	remote.ServePassed(far, takeover.Conn{Read: []byte(plainRequest)})
	answered(t, near)

	local, _ := startLocal(t, remote.localConfig(t, key)) // which reaches it in another way
	if _, err := local.WaitSession(testnet.Within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if got := to.known(); len(got) != 1 {
		t.Errorf("the other process knows the sessions %q, want one", got)
	}
	remote.TakeBack()
	answered(t, waiting)
	asks(t, ln.Addr().String())
}

const plainRequest = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// asks checks that a remote answers a request.
func asks(t *testing.T, address string) {
	t.Helper()
	conn := testnet.Dial(t, address, patience)
	if _, err := io.WriteString(conn, plainRequest); err != nil {
		t.Fatal(err)
	}
	answered(t, conn)
}

// answered checks that a request gets the answer to one that is none for a WebSocket.
func answered(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status %s", response.Status)
	}
}
