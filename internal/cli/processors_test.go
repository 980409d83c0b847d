package cli

import (
	"runtime"
	"testing"
)

func TestShareProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		env          string
		before, want int
	}{{"", 1, 1}, {"", 2, 1}, {"", 3, 2}, {"", 8, 4}, {"8", 8, 8}} {
		t.Setenv("GOMAXPROCS", c.env)
		runtime.GOMAXPROCS(c.before)
		shareProcessors()
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("GOMAXPROCS=%q, %d processors: runs on %d, want %d", c.env, c.before, got, c.want)
		}
	}
}
