package table

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"culvert/internal/state"
)

// sample is a node with texts that are long, and one that could move the cursor.
func sample(kind string) state.State {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	traffic := state.Traffic{SentBytes: 12_345, ReceivedBytes: 1.25e9, ReceivedRate: 12.3e6}
	carrier := &state.Carrier{
		Since: now.Add(-time.Minute), PeerKey: strings.Repeat("K", 43), Version: 1,
		Suite: "aes-256-gcm", ForwardSecrecy: true, RoundTripSeconds: 0.0265,
	}
	s := state.State{
		Version: 1, Time: now, Carrier: carrier,
		Node: state.Node{
			Name: kind + "-1", Kind: kind, Version: "v1.0.0", PID: 4711, Started: now.Add(-26 * time.Hour),
			Remote: "wss://" + strings.Repeat("long.", 30) + "example/",
			Listen: []state.Listener{{
				Kind: state.ListenForward, Address: "127.0.0.1:8022", Target: "h:22",
			}},
		},
		Sessions: []state.Session{{
			ID: "4fd2a1b3", Key: strings.Repeat("K", 43), Comment: "Ann's laptop", From: "192.0.2.7",
			Since: now.Add(-90 * time.Minute), State: state.SessionCarried, Streams: 1,
			Traffic: traffic, Carrier: carrier,
			Limits: &state.Limits{
				Client: strings.Repeat("K", 43), RateDown: 2e6, QuotaBytes: 10e9, QuotaUsedBytes: 1.24e9,
			},
		}},
		Streams: []state.Stream{{
			ID: 1, Session: "4fd2a1b3", Kind: "tcp", Target: "\x1b[2Jevil" + strings.Repeat(".x", 60),
			Since: now.Add(-61 * time.Second), State: state.StreamOpening, Traffic: traffic,
		}},
		Totals: state.Totals{Sessions: 1, Traffic: traffic},
	}
	again := s.Sessions[0]
	again.ID, again.Comment, again.Limits = "b3a1d2f4", "Ben's phone",
		&state.Limits{Client: "192.0.2.7/32", RateUp: 1e6}
	s.Sessions = append(s.Sessions, s.Sessions[0], again)
	for range 20 {
		s.Events = append(s.Events, state.Event{
			Time: now, Kind: state.EventCarrierLost, Reason: strings.Repeat("why ", 40),
		})
	}
	return s
}

// TestWidth checks that every line fits, whatever is shown, and that nothing controls the terminal.
func TestWidth(t *testing.T) {
	t.Parallel()
	for _, width := range []int{60, 80, 132, 200} {
		for _, kind := range []string{state.KindLocal, state.KindRemote} {
			var b bytes.Buffer
			s := sample(kind)
			if err := Node(&b, s, width); err != nil {
				t.Fatal(err)
			}
			if err := List(&b, []state.State{s}, nil, width); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				line = strings.TrimSuffix(line, "\n")
				if n := utf8.RuneCountInString(line); n > width {
					t.Errorf("%d columns at width %d: %q", n, width, line)
				}
				if strings.ContainsAny(line, "\x1b\r") {
					t.Errorf("a line controls the terminal: %q", line)
				}
			}
		}
	}
}

// TestNode checks what is shown of a node at 80 columns.
func TestNode(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string][]string{
		state.KindLocal: {
			"local-1   local v1.0.0, pid 4711, up 1d2h, up",
			"carrier   up 1m0s, round trip 26.5 ms, the system's congestion control",
			"version 1, aes-256-gcm, forward secrecy",
			"listening forward  127.0.0.1:8022 → h:22",
			" 1m1s    1.25GB   12.3MB/s    12.3kB          –",
		},
		state.KindRemote: {
			"remote-1  remote v1.0.0, pid 4711, up 1d2h, 3 sessions",
			"Ann's laptop    192.0.2.7         1h30m        1   12.3MB/s          –   26.5 ms",
			"\n\nSHARE OF                                RATE UP  RATE DOWN  USED TODAY     QUOTA\n" +
				"Ann's laptop                                  –      2MB/s      1.24GB      10GB\n" +
				"192.0.2.7/32                              1MB/s          –           –         –\n\n",
		},
	} {
		var b bytes.Buffer
		if err := Node(&b, sample(kind), 80); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(b.String(), text) {
				t.Errorf("%s: no %q in\n%s", kind, text, b.String())
			}
		}
		if n := strings.Count(b.String(), state.EventCarrierLost); n != shownEvents {
			t.Errorf("%s: %d events", kind, n)
		}
	}
}

// TestOnTerminal checks that a picture replaces the one before, and fits.
func TestOnTerminal(t *testing.T) {
	t.Parallel()
	got := string(onTerminal([]byte("a\nb\nc\n"), 3))
	if want := "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
