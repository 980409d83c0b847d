package cli

import "testing"

// TestLineAfter: after a line that could be written in part, the next one begins on its own line.
func TestLineAfter(t *testing.T) {
	cut := false
	for i, step := range []struct {
		written int // bytes of what lineAfter returns
		want    string
		counted int // bytes of the line
		cut     bool
	}{
		{3, "abc\n", 3, true},
		{0, "\nabc\n", 0, true},
		{1, "\nabc\n", 0, true}, // the end of the line before
		{5, "\nabc\n", 4, false},
		{4, "abc\n", 4, false},
	} {
		line := []byte("abc\n")
		if got := string(lineAfter(cut, line)); got != step.want {
			t.Errorf("%d: %q, want %q", i, got, step.want)
		}
		if n := noteLine(&cut, step.written, line); n != step.counted || cut != step.cut {
			t.Errorf("%d: %d, %v", i, n, cut)
		}
	}
}
