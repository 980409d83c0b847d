package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"culvert/internal/testnet"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStreamIsNetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		client, server := newPair(t, Config{}, Config{})
		a, b := openPair(t, client, server)
		return a, b, func() {
			a.Close()
			b.Close()
		}, nil
	})
}

func TestHalfClose(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	question, answer := randomBytes(t, 300<<10), randomBytes(t, 700<<10)
	go func() {
		got, err := io.ReadAll(b)
		if err != nil || string(got) != string(question) {
			t.Errorf("question: %d bytes, %v", len(got), err)
		}
		if _, err := b.Write(answer); err != nil {
			t.Error(err)
		}
		b.CloseWrite()
	}()
	if _, err := a.Write(question); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(a)
	if err != nil || string(got) != string(answer) {
		t.Fatalf("answer: %d bytes, %v", len(got), err)
	}
	waitStreams(t, client, 0)
	waitStreams(t, server, 0)
}

func TestResetIsNeverEndOfFile(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	cutShort := map[string]func(st *Stream, s *Session){
		"reset": func(st *Stream, s *Session) { st.Reset(CodeAborted) },
		"reset after fin": func(st *Stream, s *Session) {
			st.Write(make([]byte, 1<<18))
			st.CloseWrite()
			st.Reset(CodeAborted)
		},
		"close with unread end": func(st *Stream, s *Session) { st.Reset(CodeClosed) },
		"session closed":        func(st *Stream, s *Session) { s.Close() },
	}
	for _, name := range []string{"reset", "reset after fin", "close with unread end",
		"session closed"} {
		t.Run(name, func(t *testing.T) {
			a, b := openPair(t, client, server)
			b.Write([]byte("the beginning"))
			cutShort[name](b, server)
			_, err := io.ReadAll(a)
			if err == nil {
				t.Fatal("a stream cut short ended like a whole one")
			}
			var sessionErr *SessionError
			if !errors.Is(err, syscall.ECONNRESET) && !errors.As(err, &sessionErr) {
				t.Fatalf("read: %v", err)
			}
			if _, err := a.Write([]byte("x")); err == nil {
				t.Fatal("write to a stream that is cut short")
			}
			a.Close()
		})
	}
}

func TestCloseSendsWhatWasWritten(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, b := openPair(t, client, server)
	content := randomBytes(t, 60<<10)
	a.Write(content)
	a.Close()
	got, err := io.ReadAll(b)
	if err != nil || string(got) != string(content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	deadline := time.Now().Add(5 * time.Second)
	b.SetWriteDeadline(deadline)
	for err = nil; err == nil; { // the other end reads no more, so writing comes to an end
		_, err = b.Write(make([]byte, 32<<10))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("write to a closed stream: %v", err)
	}
	b.Close()
	waitStreams(t, client, 0)
	waitStreams(t, server, 0)
}

func TestRefusedOpen(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	go func() {
		in, err := server.Accept(context.Background())
		if err == nil {
			in.Refuse(CodeNotAllowed, "no\nsuch luck")
		}
	}()
	_, err := client.Open(context.Background(), Target{StreamTCP, "example.test:1"})
	var refused *OpenError
	if !errors.As(err, &refused) || refused.Code != CodeNotAllowed || refused.Text != "no?such luck" {
		t.Fatalf("open: %v", err)
	}
	waitStreams(t, client, 0)
	waitStreams(t, server, 0)
}

func TestOpenGivesUp(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		if _, err := server.Accept(context.Background()); err != nil {
			t.Error(err)
		}
		cancel()
	}()
	_, err := client.Open(ctx, Target{StreamTCP, "example.test:1"})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("open: %v", err)
	}
	waitStreams(t, client, 0)
	waitStreams(t, server, 0)
}

func TestFloodOfOpensIsRefused(t *testing.T) {
	const limit, flood = 10, 300
	client, server := newPair(t, Config{}, Config{MaxStreams: limit})
	client.peer.maxStreams = flood // a client that ignores the server's limit
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[Code]int{}
	ctx, cancel := context.WithCancel(context.Background())
	for range flood {
		wg.Go(func() {
			_, err := client.Open(ctx, Target{StreamTCP, "example.test:1"})
			var refused *OpenError
			mu.Lock()
			defer mu.Unlock()
			if errors.As(err, &refused) {
				codes[refused.Code]++
			}
			if codes[CodeTooManyStreams] == flood-limit {
				cancel()
			}
		})
	}
	wg.Wait()
	cancel()
	if codes[CodeTooManyStreams] != flood-limit {
		t.Fatalf("refusals: %v", codes)
	}
	waitStreams(t, server, 0)
}

// TestUnreadStreamsStallAlone is the session's main promise: of 1,000 streams at once half are
// never read, and the others all finish.
func TestUnreadStreamsStallAlone(t *testing.T) {
	const n, size = 1000, 100 << 10
	client, server := newPair(t, Config{Window: 32 << 10}, Config{})
	content := randomBytes(t, size)
	var senders sync.WaitGroup
	senders.Go(func() {
		for range n {
			st, err := acceptStream(context.Background(), server)
			if err != nil {
				t.Error(err)
				return
			}
			senders.Go(func() {
				defer st.Close()
				st.Write(content)
			})
		}
	})
	var readers sync.WaitGroup
	var unread []*Stream
	for i := range n {
		st, err := client.Open(context.Background(), Target{StreamTCP, "example.test:1"})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			unread = append(unread, st)
			continue
		}
		readers.Go(func() {
			defer st.Close()
			st.SetReadDeadline(time.Now().Add(60 * time.Second))
			got, err := io.ReadAll(st)
			if err != nil || string(got) != string(content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	readers.Wait()
	for _, st := range unread {
		st.Reset(CodeClosed)
	}
	senders.Wait()
	waitStreams(t, client, 0)
	waitStreams(t, server, 0)
	if b := client.Stats().Buffered; b != 0 {
		t.Errorf("%d bytes still buffered", b)
	}
}

func TestMemoryBound(t *testing.T) {
	const budget = 1 << 20 // of the 2 MiB that are sent
	client, server := newPair(t, Config{MaxBuffered: budget}, Config{})
	var streams []*Stream
	var wg sync.WaitGroup
	for range 8 {
		a, b := openPair(t, client, server)
		streams = append(streams, a)
		wg.Go(func() {
			defer b.Close()
			b.SetWriteDeadline(time.Now().Add(5 * time.Second))
			b.Write(make([]byte, DefaultWindow))
		})
	}
	wg.Wait()
	testnet.Poll(t, 10*time.Second, "all to arrive", func() bool {
		stats := server.Stats()
		return stats.Queued == 0 && stats.Sent == client.Stats().Received
	})
	overloaded := 0
	for _, st := range streams {
		if b := client.Stats().Buffered; b > budget {
			t.Fatalf("%d bytes buffered, budget %d", b, budget)
		}
		_, err := io.Copy(io.Discard, st)
		var reset *ResetError
		if errors.As(err, &reset) && reset.Code == CodeOverload {
			overloaded++
		} else if err != nil {
			t.Errorf("read: %v", err)
		}
		st.Close()
	}
	if overloaded == 0 || overloaded == len(streams) {
		t.Fatalf("%d of %d streams were reset", overloaded, len(streams))
	}
}

func TestDeadlineError(t *testing.T) {
	client, server := newPair(t, Config{}, Config{})
	a, _ := openPair(t, client, server)
	a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	a.Reset(CodeAborted)
}
