package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHeartbeatNamesTheLongestRunningTest(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	s := newSummary(&out, start)
	at := func(seconds int, json string) bool {
		return s.line([]byte(json+"\n"), start.Add(time.Duration(seconds)*time.Second))
	}

	s.heartbeat(start.Add(30 * time.Second))
	for _, printed := range []bool{
		at(31, `{"Action":"start","Package":"p"}`),
		at(31, `{"Action":"run","Package":"p","Test":"TestOld"}`),
		at(35, `{"Action":"run","Package":"p","Test":"TestOld/sub"}`),
		at(32, `{"Action":"run","Package":"q","Test":"TestYoung"}`),
		at(40, `{"Action":"output","Package":"q","Test":"TestYoung","Output":"talks\n"}`),
	} {
		if printed {
			t.Error("an event that prints nothing says that it printed")
		}
	}
	s.heartbeat(start.Add(65 * time.Second))
	at(70, `{"Action":"pass","Package":"q","Test":"TestYoung"}`)
	s.heartbeat(start.Add(95 * time.Second))

	want := "...   30s: building, or between two tests\n" +
		"...   1m5s: q TestYoung has been running for 33s\n" +
		"...   1m35s: p TestOld/sub has been running for 1m0s\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}

func TestPackageWithoutAnEndFails(t *testing.T) {
	var out bytes.Buffer
	s := newSummary(&out, time.Time{})
	s.line([]byte(`{"Action":"start","Package":"p"}`), time.Time{})
	if status := s.finish(0); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if want := "\n0 passed, 1 failed, 0 skipped\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %q, want it to end in %q", &out, want)
	}
}

func TestLineThatIsNoEventIsPrinted(t *testing.T) {
	for _, line := range []string{"warning: something", "{}", "[1]", `{"Action":7}`} {
		var out bytes.Buffer
		s := newSummary(&out, time.Time{})
		if !s.line([]byte(line+"\r\n"), time.Time{}) || out.String() != line+"\n" {
			t.Errorf("%q was printed as %q", line, &out)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	var o output
	piece := strings.Repeat("x", maxOutput/4)
	for range 5 {
		o.add(piece)
	}
	want := strings.Repeat(piece, 4) + fmt.Sprintf("\n[more output was left out: only %d bytes are kept]\n", maxOutput)
	if got := o.text(); got != want {
		t.Errorf("%d bytes were kept, want %d", len(got), len(want))
	}
}
