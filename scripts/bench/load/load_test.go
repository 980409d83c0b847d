package load

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startTarget serves on three consecutive ports until the test ends, and returns the first.
func startTarget(t *testing.T) int {
	t.Helper()
	first := freePorts(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Serve(ctx, "127.0.0.1", first, 3, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return first
}

// Without a proxy, each load measures plausible values.
func TestLoads(t *testing.T) {
	first := startTarget(t)
	target := net.JoinHostPort("127.0.0.1", strconv.Itoa(first))
	const short = 200 * time.Millisecond
	for name, test := range map[string]struct {
		request Request
		want    []string // values, all greater than 0
	}{
		"ready": {Request{Kind: "ready"}, nil},
		"downloads": {Request{Kind: "throughput", Streams: 3, Warmup: short, Window: short},
			[]string{"mb_per_s"}},
		"uploads": {Request{Kind: "throughput", Streams: 3, Up: true, Warmup: short, Window: short},
			[]string{"mb_per_s"}},
		"echo": {Request{Kind: "echo", Window: short}, []string{"p50_ms", "p90_ms", "p99_ms"}},
		"loaded echo": {Request{Kind: "echo", Bulk: 2, Up: true, Warmup: short, Window: short},
			[]string{"p50_ms", "p90_ms", "p99_ms", "bulk_mb_per_s"}},
		"connections": {Request{Kind: "connect", Streams: 4, Window: short},
			[]string{"conns_per_s", "p50_ms"}},
		"first byte": {Request{Kind: "first", Ports: []int{first + 1, first + 2}},
			[]string{"unseen_ms", "seen_ms"}},
		"cold down": {Request{Kind: "cold", Bytes: 1 << 20}, []string{"mb_per_s"}},
		"cold up":   {Request{Kind: "cold", Bytes: 1 << 20, Up: true}, []string{"mb_per_s"}},
		"rival": {Request{Kind: "rival", Streams: 1, Warmup: short, Window: short},
			[]string{"share", "mb_per_s"}},
		"rival under another control": {Request{Kind: "rival", Streams: 1, Rival: "reno", Warmup: short,
			Window: short}, []string{"share", "mb_per_s"}},
		"memory": {Request{Kind: "memory", Streams: 3, Bytes: 1 << 20, Warmup: short, Window: short,
			PIDs: []int{os.Getpid()}}, []string{"peak_mb", "end_mb"}},
		"hold": {Request{Kind: "hold", Streams: 100, Window: short},
			[]string{"unloaded_p50_ms", "p50_ms", "ratio", "held"}},
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

// TestForeignUpload: what another measurement has left in a tunnel isn't counted.
func TestForeignUpload(t *testing.T) {
	target := net.JoinHostPort("127.0.0.1", strconv.Itoa(startTarget(t)))
	id := make([]byte, idSize)
	other, err := Request{Target: target}.open(t.Context(), upload)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tally, err := readTally(t.Context(), target, id)
	if err != nil {
		t.Fatal(err)
	}
	defer tally.stop()
	id[0] = 1
	if _, err := other.Write(append(id, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	own, err := readTally(t.Context(), target, id)
	if err != nil {
		t.Fatal(err)
	}
	defer own.stop()
	for own.count() < 3 {
		if err := wait(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	if n, err := tally.between(begin, begin); n != 0 || tally.count() != 0 || err != nil {
		t.Errorf("%v bytes of another measurement, %v", n, err)
	}
}

// A load that cannot reach its target returns an error.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for kind := range kinds {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if values, err := Run(ctx, Request{Kind: kind, Target: ln.Addr().String(), Streams: 2,
			Window: time.Second, Ports: []int{1}}); err == nil {
			t.Errorf("%s: %v", kind, values)
		}
		cancel()
	}
	if _, err := Run(t.Context(), Request{Kind: "nothing"}); err == nil {
		t.Error("a load that does not exist was run")
	}
}

// The page matches its comment, and each of its resources is served.
func TestPage(t *testing.T) {
	first := freePorts(t, PageOrigins)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	reports := make(chan string, 1)
	go func() {
		done <- ServePage(ctx, "127.0.0.1", first, func() { close(ready) },
			func(run, milliseconds, loaded string) {
				reports <- run + " " + milliseconds + " " + loaded
			})
	}()
	defer func() {
		cancel()
		<-done
	}()
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	base := "http://127.0.0.1:" + strconv.Itoa(first)
	html := get(t, base+"/?run=1")
	addresses := regexp.MustCompile(`"http://[^"]+"`).FindAllString(html, -1)
	size, origins := len(html), make(map[string]bool)
	for _, address := range addresses {
		address = strings.Trim(address, `"`)
		size += len(get(t, address))
		origins[strings.SplitN(address, "/", 4)[2]] = true
	}
	if PageResources != 200 || len(addresses) != PageResources || len(origins) != PageOrigins {
		t.Errorf("%d resources of %d origins", len(addresses), len(origins))
	}
	if size < 5_250_000 || size > 5_350_000 {
		t.Errorf("%d bytes", size)
	}
	get(t, base+"/report?run=1&ms=2.5&loaded=200")
	if report := <-reports; report != "1 2.5 200" {
		t.Errorf("report %q", report)
	}
}

// get returns the body at an address.
func get(t *testing.T, address string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: dialTime}).Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, response.Status, err)
	}
	return string(body)
}

// freePorts returns the first of count consecutive ports that nobody listens on at the moment. They
// are below those that the system chooses for outgoing connections.
func freePorts(t *testing.T, count int) int {
	t.Helper()
search:
	for range 100 {
		first := 10000 + rand.IntN(20000)
		for i := range count {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i)))
			if err != nil {
				continue search
			}
			defer ln.Close()
		}
		return first
	}
	t.Fatalf("no %d consecutive free ports", count)
	return 0
}

func TestInterpolation(t *testing.T) {
	samples := []sample{{100, 1000}, {200, 3000}, {300, 3000}}
	for when, want := range map[int64]float64{50: 1000, 100: 1000, 150: 2000, 200: 3000, 250: 3000,
		400: 3000} {
		if got := at(samples, when); got != want {
			t.Errorf("at %d: %v, want %v", when, got, want)
		}
	}
}
