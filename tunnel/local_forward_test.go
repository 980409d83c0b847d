package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

func TestForwardToNowhereIsReset(t *testing.T) {
	local, _ := startTunnel(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := ln.Addr().String()
	ln.Close()
	conn, err := net.Dial("tcp", startForward(t, local, nowhere))
	if err == nil { // otherwise the reset has come even before the dial was over
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("dial and read: %v", err)
	}
}

// nopCloser makes a buffer an io.WriteCloser and remembers that it was closed.
type closableBuffer struct {
	bytes.Buffer
	closed bool
}

func (b *closableBuffer) Close() error {
	b.closed = true
	return nil
}

func TestStdio(t *testing.T) {
	local, _ := startTunnel(t)
	content := randomBytes(t, 1<<20)
	out := &closableBuffer{}
	err := local.Stdio(testnet.Within(t, patience), testnet.EchoServer(t),
		io.NopCloser(bytes.NewReader(content)), out, nil)
	if err != nil || !bytes.Equal(out.Bytes(), content) || !out.closed {
		t.Fatalf("%d bytes, closed %v, %v", out.Len(), out.closed, err)
	}
	cut := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		io.ReadFull(conn, make([]byte, 1))
		conn.SetLinger(0)
	})
	in, stop := io.Pipe()
	defer stop.Close()
	go stop.Write([]byte("x"))
	if err := local.Stdio(
		testnet.Within(t, patience), cut, in, &closableBuffer{}, nil,
	); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a target that resets: %v", err)
	}
}

// Stdio waits until the remote has all that came from in, also when the target has ended its half
// long before.
func TestStdioAwaitsUpload(t *testing.T) {
	local, _ := startTunnel(t)
	content := randomBytes(t, 4<<20)
	got := make(chan []byte, 1)
	sink := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		conn.CloseWrite()
		all, _ := io.ReadAll(conn)
		got <- all
	})
	if err := local.Stdio(testnet.Within(t, patience), sink,
		io.NopCloser(bytes.NewReader(content)), &closableBuffer{}, nil); err != nil {
		t.Error(err)
	}
	stats := local.connection().session.Stats()
	if stats.Queued > 0 || stats.Acknowledged < uint64(len(content)) {
		t.Errorf("%d bytes are still to be sent, %d have arrived", stats.Queued, stats.Acknowledged)
	}
	if all := <-got; !bytes.Equal(all, content) {
		t.Errorf("the target got %d bytes of %d", len(all), len(content))
	}
}

// Whoever reaches a listener of a forward, on either side, can't fill the log of the local: it has
// a line a second about connections that are refused, and what is left out is counted.
func TestForwardWarnings(t *testing.T) {
	t.Parallel()
	const times = 50
	for kind, serve := range map[string]func(*testing.T, *Local, string) (string, func()){
		"-R": func(t *testing.T, local *Local, target string) (address string, stop func()) {
			ln, stop := serveReverseTo(t, local, "localhost:0", target)
			return ln.Addr().String(), stop
		},
		"-L": func(t *testing.T, local *Local, target string) (address string, stop func()) {
			ln := testnet.Listen(t)
			ctx, cancel := context.WithCancel(t.Context())
			var serving sync.WaitGroup
			serving.Go(func() { local.ServeForward(ctx, ln, target) })
			return ln.Addr().String(), func() {
				cancel()
				testnet.Await(t, patience, serving.Wait)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			key, log := newKey(t), &lockedBuffer{}
			rules, err := policy.ParseReverseRules([]string{"localhost"})
			if err != nil {
				t.Fatal(err)
			}
			remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) {
				cfg.Reverse = rules
			})
			cfg := remote.localConfig(t, key)
			cfg.Log = zerolog.New(log)
			local, _ := startLocal(t, cfg)
			address, stop := serve(t, local, "127.0.0.1:"+testnet.FreePort(t))
			defer stop()
			began := time.Now()
			for range times {
				isReset(t, address)
			}
			most := 1 + int(time.Since(began)/streamWarningsPeriod)
			stop()
			lines, counted := 0, 0
			for line := range strings.Lines(log.String()) {
				var warning struct {
					Target  string
					Omitted int
					Error   string
				}
				if err := json.Unmarshal([]byte(line), &warning); err != nil {
					t.Fatal(err)
				}
				counted += warning.Omitted
				if warning.Target != "" && warning.Error != "" {
					lines++
					counted++
				}
			}
			if lines > most || counted != times {
				t.Errorf("%d lines, with others %d warnings:\n%s", lines, counted, log)
			}
		})
	}
}

// TestStdioTellsWhatIsSent: sent is called once the remote has all, while the target still may
// answer, or with an error when the target leaves before.
func TestStdioTellsWhatIsSent(t *testing.T) {
	local, _ := startTunnel(t)
	stay := make(chan struct{})
	for name, target := range map[string]func(*net.TCPConn){
		"stays": func(conn *net.TCPConn) {
			io.Copy(io.Discard, conn)
			<-stay
		},
		"resets": func(conn *net.TCPConn) {
			io.ReadFull(conn, make([]byte, 1))
			conn.SetLinger(0)
		},
	} {
		sent, ended := make(chan error, 1), make(chan error, 1)
		address := testnet.ServeTCP(t, target)
		go func() {
			in := io.NopCloser(bytes.NewReader(make([]byte, 32<<20)))
			ended <- local.Stdio(testnet.Within(t, patience), address, in, &closableBuffer{},
				func(err error) { sent <- err })
		}()
		if err := <-sent; (err != nil) != (name == "resets") {
			t.Errorf("the target %s: sent: %v", name, err)
		}
		if name == "stays" {
			if len(ended) > 0 {
				t.Errorf("it has ended: %v", <-ended)
			}
			close(stay)
		}
		if err := <-ended; (err != nil) != (name == "resets") {
			t.Errorf("the target %s: %v", name, err)
		}
	}
}

// One stream that waits for a session in vain is one refusal, also where its door counts errors.
func TestNoSessionCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := &bounds.Counts{}
		local := NewLocal(LocalConfig{Bounds: counts})
		near, far := net.Pipe()
		defer far.Close()
		log := forwardLog(zerolog.Nop(), "h:1")
		local.forward(t.Context(), near, "h:1", log)
		log.close()
		if n := counts.Of(bounds.NoSessionWait); n != 1 {
			t.Errorf("%d counted, want 1", n)
		}
	})
}

// When ctx is done, Stdio ends although it is blocked on both sides: in has nothing to read, and
// nobody reads out. It leaves no goroutine behind, which the package's tests check.
func TestStdioStops(t *testing.T) {
	local, _ := startTunnel(t)
	flood := testnet.ServeTCP(t, func(conn *net.TCPConn) {
		for {
			if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	in, _ := io.Pipe()
	_, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- local.Stdio(ctx, flood, in, out, nil) }()
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-testnet.Within(t, patience).Done():
		t.Fatal("Stdio is still blocked")
	}
}

func TestStreamTarget(t *testing.T) {
	for text, want := range map[string]mux.Target{
		"localhost:22":   {Kind: mux.StreamTCP, Address: "localhost:22"},
		"unix:22":        {Kind: mux.StreamTCP, Address: "unix:22"},
		"unix:/run/sock": {Kind: mux.StreamUnix, Address: "/run/sock"},
	} {
		if got := streamTarget(text); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
