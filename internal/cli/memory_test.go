package cli

import (
	"bytes"
	"errors"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
	"culvert/tunnel"

	"github.com/docker/go-units"
	"github.com/rs/zerolog"
)

func TestParseMemory(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	machine := func() int64 { return 8 * gib }
	unknown := func() int64 { return 0 }
	for _, test := range []struct {
		text      string
		available func() int64
		want      int64
	}{
		{"512MiB", machine, 512 * mib},
		{"512MB", machine, 512 * mib},
		{"512m", unknown, 512 * mib},
		{"1.5GiB", machine, 3 * gib / 2},
		{"64MiB", machine, 64 * mib},
		{"67108864", machine, 64 * mib},
		{defaultMemory, machine, 2 * gib},
		{"100%", machine, 8 * gib},
		{"12.5%", machine, gib},
		{"0.1%", machine, 64 * mib}, // no less
		{defaultMemory, func() int64 { return 100 * mib }, 64 * mib},
		{defaultMemory, unknown, tunnel.DefaultMemory},
	} {
		got, err := parseMemory(test.text, test.available)
		if got != test.want || err != nil {
			t.Errorf("%s: %d, %v; want %d", test.text, got, err, test.want)
		}
	}
}

func TestBadMemory(t *testing.T) {
	machine := func() int64 { return 8 << 30 }
	for text, why := range map[string]string{
		"":            "want a size",
		"much":        "want a size",
		"12x":         "want a size",
		"-1GiB":       "want a size",
		"1e300TiB":    "",
		"9e18":        "at most " + units.BytesSize(mostMemory),
		"63MiB":       "at least 64MiB",
		"0":           "at least 64MiB",
		"%":           "percentage",
		"0%":          "percentage",
		"-5%":         "percentage",
		"101%":        "percentage",
		"NaN%":        "percentage",
		"twenty%":     "percentage",
		"50 percent%": "percentage",
	} {
		size, err := parseMemory(text, machine)
		failure, ok := errors.AsType[*exit.Failure](err)
		if !ok || failure.Code != exit.Usage || !strings.Contains(failure.What, "--memory") ||
			!strings.Contains(failure.What, text) || !strings.Contains(failure.What, why) ||
			!strings.Contains(failure.Hint, "--memory 512MiB") {
			t.Errorf("%q: %d, %+v", text, size, err)
		}
	}
	if _, err := parseMemory("50%", func() int64 { return 0 }); err == nil {
		t.Error("a percentage of what is not known")
	}
}

// TestMemoryPrecedence: GOMEMLIMIT, which the runtime has read, wins over --memory, with a warning
// if that was given, and is no less than the least.
func TestMemoryPrecedence(t *testing.T) {
	for _, test := range []struct {
		limit  int64 // of the runtime
		option memoryOption
		want   int64
		log    string
	}{
		{math.MaxInt64, memoryOption{"300MiB", true}, 300 << 20, "source=--memory"},
		{200 << 20, memoryOption{"300MiB", true}, 200 << 20, "ignored"},
		{200 << 20, memoryOption{defaultMemory, false}, 200 << 20, "source=GOMEMLIMIT"},
		{16 << 20, memoryOption{defaultMemory, false}, leastMemory, "source=GOMEMLIMIT"},
		{1 << 60, memoryOption{defaultMemory, false}, mostMemory, "source=GOMEMLIMIT"},
	} {
		log := &bytes.Buffer{}
		before := debug.SetMemoryLimit(test.limit)
		got, err := test.option.load(zerolog.New(zerolog.ConsoleWriter{Out: log, NoColor: true}))
		debug.SetMemoryLimit(before)
		if got != test.want || err != nil || !strings.Contains(log.String(), test.log) {
			t.Errorf("%+v: %d, %v\n%s", test, got, err, log)
		}
		if !test.option.given && strings.Contains(log.String(), "ignored") {
			t.Errorf("%+v: a warning about a flag that was not given", test)
		}
	}
}

// TestAvailableMemory: the system tells how much memory there is, and that is plausible.
func TestAvailableMemory(t *testing.T) {
	if got := availableMemory(); got != 0 && (got < 16<<20 || got > mostMemory) {
		t.Errorf("%d bytes", got)
	}
}

// TestMostMemory: a program has no more memory than its address space, however much the machine
// has.
func TestMostMemory(t *testing.T) {
	want := int64(1 << 50)
	if math.MaxInt == math.MaxInt32 {
		want = 2 << 30
	}
	if size, err := parseMemory(strconv.FormatInt(want, 10), nil); size != want || err != nil {
		t.Errorf("%d: %d, %v", want, size, err)
	}
	if size, err := parseMemory(strconv.FormatInt(want+1, 10), nil); err == nil {
		t.Errorf("%d is %d", want+1, size)
	}
}
