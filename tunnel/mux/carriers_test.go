package mux

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"culvert/certs"
	"culvert/protocol"
)

// loopRecords is how many records a loop holds on their way in each direction.
const loopRecords = 8

// loopCarrier is one end of a carrier in memory that allocates nothing: its buffers are reused.
// Sessions over it can be resumed.
type loopCarrier struct {
	*securePipe // for Export and Close
	in, out     loop
}

// loop is the buffers of one direction.
type loop struct{ full, empty chan []byte }

func newLoop() loop {
	l := loop{make(chan []byte, loopRecords), make(chan []byte, loopRecords)}
	for range loopRecords {
		l.empty <- make([]byte, 0, MaxRecordSize)
	}
	return l
}

func newLoopPair() (a, b *loopCarrier) {
	x, y := newSecurePipe()
	up, down := newLoop(), newLoop()
	return &loopCarrier{x, down, up}, &loopCarrier{y, up, down}
}

func (c *loopCarrier) ReadRecord(buf []byte) ([]byte, error) {
	select {
	case b := <-c.in.full:
		buf = append(buf[:0], b...)
		c.in.empty <- b
		return buf, nil
	case <-c.closed:
		return nil, io.ErrUnexpectedEOF
	}
}

func (c *loopCarrier) WriteRecords(records ...[]byte) error {
	for _, record := range records {
		select {
		case b := <-c.out.empty:
			c.out.full <- append(b[:0], record...)
		case <-c.closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

// joinEnds starts a session over the two ends of a carrier: one that retains what it sends, or one
// that ends with its carrier.
func joinEnds(t testing.TB, near, far Carrier, retaining bool) (client, server *Session) {
	t.Helper()
	client, server = startPair(t, near, Config{}, func() (server *Session, err error) {
		if !retaining {
			return NewServer(context.Background(), far, Config{})
		}
		server, _, err = NewHost(HostConfig{}).Accept(context.Background(), far, Config{},
			Peer{Identity: owner})
		return server, err
	})
	if got := client.resumption != nil && server.resumption != nil; got != retaining {
		t.Fatalf("retaining: %v, want %v", got, retaining)
	}
	return client, server
}

// newSecuredPair returns the two ends of a secured WebSocket over loopback, as culvert uses it.
func newSecuredPair(t testing.TB) (client, server *protocol.Conn) {
	t.Helper()
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	anyone := func(protocol.Peer) error { return nil }
	accepted := make(chan *protocol.Conn, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := protocol.Upgrade(w, r)
		var conn *protocol.Conn
		if err == nil {
			conn, err = protocol.Server(r.Context(), ws, protocol.ServerConfig{
				Key: key, Admit: anyone, Replay: protocol.NewReplayCache(0),
				PeerAddr: netip.MustParseAddr("127.0.0.1"), MaxMessage: MaxRecordSize,
			})
		}
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}))
	t.Cleanup(web.Close)
	ws, _, err := protocol.NewDialer(nil, nil).Dial("ws"+web.URL[len("http"):], nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err = protocol.Client(context.Background(), ws, protocol.ClientConfig{
		Version: protocol.Version1, Key: key, VerifyServer: anyone, MaxMessage: MaxRecordSize,
	})
	if err != nil {
		t.Fatal(err)
	}
	if server = <-accepted; server == nil {
		t.FailNow()
	}
	return client, server
}
