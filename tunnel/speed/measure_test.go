package speed

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/tcpinfo"
)

// slowConn delays what is written, so that it moves at a rate.
type slowConn struct{ net.Conn }

const slowRate = 64 << 20 // bytes a second

func (c slowConn) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / slowRate) // synctest
	return c.Conn.Write(p)
}

// serveTest returns the configuration of a measurement of a server, over pipes, in a bubble.
func serveTest(t *testing.T, server *Server) Config {
	t.Helper()
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return Config{
		Open: func(_ context.Context, service string) (net.Conn, error) {
			near, far := net.Pipe()
			if service != Control {
				near, far = slowConn{near}, slowConn{far}
			}
			serving.Go(func() {
				defer far.Close()
				server.Serve(ctx, service, far)
			})
			return near, nil
		},
		TCP:    func() *tcpinfo.Info { return nil },
		Window: 2 * time.Second,
	}
}

func noTCP() *tcpinfo.Info { return nil }

func noShare() (up, down int64) { return 0, 0 }

// TestMeasure measures both directions, whose rate is known, and follows the progress.
func TestMeasure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := serveTest(t, NewServer(noTCP, noShare))
		var phases []Phase
		last := Progress{}
		cfg.OnProgress = func(p Progress) {
			if p.Phase == last.Phase && p.Done < last.Done {
				t.Errorf("%v after %v", p, last)
			}
			if last = p; len(phases) == 0 || phases[len(phases)-1] != p.Phase {
				phases = append(phases, p.Phase)
			}
		}
		got, err := Measure(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, transfer := range []Transfer{got.Download, got.Upload} {
			if most := float64(streams * slowRate); transfer.Rate < most*0.9 || transfer.Rate > most*1.1 {
				t.Errorf("%.0f bytes a second, want %.0f", transfer.Rate, most)
			}
			if transfer.Took < cfg.Window-lookEvery*pingPause || transfer.Took > cfg.Window+time.Second ||
				transfer.Loaded.Count < 20 || transfer.Segments != -1 || transfer.Resent != -1 {
				t.Errorf("%+v", transfer)
			}
		}
		if len(phases) != 3 || got.Idle.Count != idlePings {
			t.Errorf("phases %v, %+v", phases, got.Idle)
		}
	})
}

// lateConn is a control connection whose answers are late while late is set.
type lateConn struct {
	net.Conn
	late *atomic.Bool
	by   time.Duration
}

// Read implements net.Conn.
func (c lateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.late.Load() {
		time.Sleep(c.by) // synctest
	}
	return n, err
}

// TestMeasureBehindQueues: the measurement takes the time that was asked for, however long a round
// trip takes under load.
func TestMeasureBehindQueues(t *testing.T) {
	t.Parallel()
	for _, trip := range []time.Duration{350 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			cfg := serveTest(t, NewServer(noTCP, noShare))
			var late atomic.Bool
			open := cfg.Open
			cfg.Open = func(ctx context.Context, service string) (net.Conn, error) {
				conn, err := open(ctx, service)
				if service == Control {
					conn = lateConn{conn, &late, trip}
				}
				return conn, err
			}
			cfg.OnProgress = func(p Progress) { late.Store(p.Phase != PhaseIdle || p.Done >= 1) }
			cfg.Window = time.Second
			got, err := Measure(t.Context(), cfg)
			if err != nil {
				t.Fatalf("%v: %v", trip, err)
			}
			for _, transfer := range []Transfer{got.Download, got.Upload} {
				if transfer.Took < cfg.Window || transfer.Took > cfg.Window+3*trip {
					t.Errorf("%v: took %v", trip, transfer.Took)
				}
			}
		})
	}
}

// TestMeasureCancelled ends a measurement with its context, whose cause it returns.
func TestMeasureCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := serveTest(t, NewServer(noTCP, noShare))
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(gone) })
		if _, err := Measure(ctx, cfg); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

// TestMeasureRefused returns the error of the stream that isn't opened.
func TestMeasureRefused(t *testing.T) {
	t.Parallel()
	for _, refused := range []string{Control, Download, Upload} {
		synctest.Test(t, func(t *testing.T) {
			cfg := serveTest(t, NewServer(noTCP, noShare))
			open, why := cfg.Open, errors.New("refused")
			cfg.Open = func(ctx context.Context, service string) (net.Conn, error) {
				if service == refused {
					return nil, why
				}
				return open(ctx, service)
			}
			if _, err := Measure(t.Context(), cfg); err != why {
				t.Errorf("%s: %v", refused, err)
			}
		})
	}
}

// TestBytesBound ends a measurement early, with what there is, when the test may carry no more; a
// test that has not begun to be measured by then fails.
func TestBytesBound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		left time.Duration // at the rate
		want error
	}{
		"in the middle": {2 * time.Second, nil},
		"too soon":      {500 * time.Millisecond, ErrShort},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := NewServer(noTCP, noShare)
				carried := MaxBytes - int64(test.left.Seconds()*streams*slowRate)
				server.sent.Store(carried)
				server.received.Store(carried)
				got, err := Measure(t.Context(), serveTest(t, server))
				if !errors.Is(err, test.want) {
					t.Fatalf("got %v", err)
				}
				if took := got.Download.Took; test.want == nil && took > 1500*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestServerRefuses checks what a server does with requests that it doesn't understand.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	server := NewServer(noTCP, noShare)
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(t.Context(), Control, far)
		far.Close()
	}()
	near.SetDeadline(time.Now().Add(time.Minute))
	answers := bufio.NewReader(near)
	io.WriteString(near, `{"op":"of a later version","more":1}`+"\n")
	if line, err := answers.ReadString('\n'); line != "{}\n" {
		t.Errorf("answer %q, %v", line, err)
	}
	go io.WriteString(near, strings.Repeat("x", maxLine+1))
	if err := <-done; !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("a long line: %v", err)
	}
	if err := server.Serve(t.Context(), "speed/else", far); err != ErrUnknown {
		t.Errorf("another service: %v", err)
	}
	server.streams.Store(maxStreams)
	if err := server.Serve(t.Context(), Download, far); err != ErrStreams {
		t.Errorf("one more stream: %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, os.ErrDeadlineExceeded)
	defer cancel()
	here, _ := net.Pipe()
	defer here.Close()
	if err := server.Serve(ctx, Upload, here); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a test that lasts too long: %v", err)
	}
}
