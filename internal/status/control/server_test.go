package control

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts one connection.
type pipeListener struct {
	accepted  chan net.Conn
	closed    chan struct{}
	closeOnce sync.Once
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// TestSlowRequests checks that requests which take longer than the head of one may take to arrive
// are not cut: one to add a forward, and the one to stop, which lasts until the node has ended.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const bindTime, drainTime = 4 * headTimeout, 10 * requestTimeout
		ctx, end := context.WithCancel(context.Background())
		server := newHTTP(ctx, nil)
		server.Handler = (&Server{}).handler(Node{
			Stop: func() { time.AfterFunc(drainTime, end) },
			AddForward: func(ctx context.Context, _ Forward) (string, error) {
				select {
				case <-time.After(bindTime):
					return "bound", nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			},
		})
		near, far := net.Pipe()
		ln := &pipeListener{accepted: make(chan net.Conn, 1), closed: make(chan struct{})}
		ln.accepted <- far
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(ln) })
		transport := &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil },
		}
		client := &Client{&http.Client{Transport: transport}, transport, ""}

		address, err := client.AddForward(t.Context(), Forward{Kind: ForwardReverse})
		if err != nil || address != "bound" {
			t.Errorf("a forward that takes %v: %q, %v", bindTime, address, err)
		}
		began := time.Now()
		if err := client.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(began); took != drainTime {
			t.Errorf("stop took %v, the node %v", took, drainTime)
		}
		client.Close()
		server.Close()
		serving.Wait()
	})
}
