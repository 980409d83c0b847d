package load

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startTarget serves on three ports in a row until the test ends, and returns the first.
func startTarget(t *testing.T) int {
	t.Helper()
	for range 20 { // the ports after a free one may be taken
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first := ln.Addr().(*net.TCPAddr).Port
		ln.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ready, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- Serve(ctx, "127.0.0.1", first, 3, func() { close(ready) }) }()
		select {
		case <-ready:
			t.Cleanup(func() {
				cancel()
				<-done
			})
			return first
		case <-done:
			cancel()
		}
	}
	t.Fatal("no three free ports in a row")
	return 0
}

// Each load measures something true of the target when there is no proxy.
func TestLoads(t *testing.T) {
	first := startTarget(t)
	target := net.JoinHostPort("127.0.0.1", strconv.Itoa(first))
	const short = 200 * time.Millisecond
	for name, test := range map[string]struct {
		request Request
		want    []string // values, all of which are more than 0
	}{
		"ready":     {Request{Kind: "ready"}, nil},
		"downloads": {Request{Kind: "throughput", Streams: 3, Warmup: short, Window: short}, []string{"mb_per_s"}},
		"uploads":   {Request{Kind: "throughput", Streams: 3, Up: true, Warmup: short, Window: short}, []string{"mb_per_s"}},
		"echo":      {Request{Kind: "echo", Window: short}, []string{"p50_ms", "p90_ms", "p99_ms"}},
		"loaded echo": {Request{Kind: "echo", Bulk: 2, Up: true, Warmup: short, Window: short},
			[]string{"p50_ms", "p90_ms", "p99_ms", "bulk_mb_per_s"}},
		"connections": {Request{Kind: "connect", Streams: 4, Window: short}, []string{"conns_per_s", "p50_ms"}},
		"first byte":  {Request{Kind: "first", Ports: []int{first + 1, first + 2}}, []string{"unseen_ms", "seen_ms"}},
		"hold":        {Request{Kind: "hold", Streams: 100, Window: short}, []string{"unloaded_p50_ms", "p50_ms", "ratio", "held"}},
	} {
		t.Run(name, func(t *testing.T) {
			request := test.request
			request.Target = target
			values, err := Run(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			if len(values) != len(test.want) {
				t.Errorf("values %v, want %v", values, test.want)
			}
			for _, value := range test.want {
				if !(values[value] > 0) {
					t.Errorf("%s: %v", value, values[value])
				}
			}
			if held, ok := values["held"]; ok && held != float64(request.Streams) {
				t.Errorf("held %v of %d", held, request.Streams)
			}
		})
	}
}

// A load that can't reach its target says so.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for kind := range kinds {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if values, err := Run(ctx, Request{Kind: kind, Target: ln.Addr().String(), Streams: 2, Window: time.Second, Ports: []int{1}}); err == nil {
			t.Errorf("%s: %v", kind, values)
		}
		cancel()
	}
	if _, err := Run(t.Context(), Request{Kind: "nothing"}); err == nil {
		t.Error("a load that there is not was run")
	}
}

func TestInterpolation(t *testing.T) {
	samples := []sample{{100, 1000}, {200, 3000}, {300, 3000}}
	for when, want := range map[int64]float64{50: 1000, 100: 1000, 150: 2000, 200: 3000, 250: 3000, 400: 3000} {
		if got := at(samples, when); got != want {
			t.Errorf("at %d: %v, want %v", when, got, want)
		}
	}
}
