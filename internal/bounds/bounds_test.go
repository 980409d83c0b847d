package bounds

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	row = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| " +
		"`([a-z0-9/]+)\\.(\\w+)` \\|.*\\| ([^|]+) \\|$")
	counted = regexp.MustCompile("(?s)\nCounted are: (.*?)\\.\n")
	name    = regexp.MustCompile("`([a-z0-9-]+)`")
	refuses = regexp.MustCompile(`\b(refused|503|dropped)\b`)
)

// uncounted are the limits that refuse something and are not counted: those that another metric
// counts, and those that nobody can reach.
var uncounted = []string{
	"memory-handshake", "memory-exit", "memory-stream", "memory-association", // as memory
	"log-queue",              // culvert_log_lines_dropped_total
	"scrapes", "scrape-time", // promhttp_metric_handler_requests_total
	"proxy-datagram", // UDP has no larger ones
	"credential",     // of a configuration, or a wrong password
}

// readFrom are the packages whose limits are those of files and options.
var readFrom = regexp.MustCompile(`^(certs|internal/cli.*|internal/quota|tunnel/policy)$`)

// TestNames compares the values of the label with docs/limits.md: each is a limit there, each limit
// that refuses something while a node runs is counted, and the list there is complete.
func TestNames(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	values := names[:]
	var rows []string
	for _, m := range row.FindAllSubmatch(text, -1) {
		label, folder, past := string(m[1]), string(m[2]), string(m[4])
		rows = append(rows, label)
		if refuses.MatchString(past) && !readFrom.MatchString(folder) &&
			!slices.Contains(values, label) && !slices.Contains(uncounted, label) {
			t.Errorf("%s (%s) is not counted: add it to names.go, and count it where it refuses",
				label, past)
		}
	}
	if len(rows) < 100 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, value := range values {
		if !slices.Contains(rows, value) {
			t.Errorf("%q is no limit of docs/limits.md", value)
		}
	}
	list := counted.FindSubmatch(text)
	if list == nil {
		t.Fatal("docs/limits.md doesn't list what is counted")
	}
	var listed []string
	for _, m := range name.FindAllSubmatch(list[1], -1) {
		listed = append(listed, string(m[1]))
	}
	if sorted := slices.Sorted(slices.Values(values)); !slices.Equal(
		slices.Sorted(slices.Values(listed)), sorted) {
		t.Errorf("docs/limits.md lists other names than names.go, which has:\n`%s`",
			strings.Join(values, "`, `"))
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	c := new(Counts)
	cause := errors.New("too many")
	err := fmt.Errorf("refused: %w", &Error{Streams, cause})
	c.Note(err)
	c.Note(cause)
	c.Note(nil)
	c.Refused(Streams)
	c.Each(func(b Bound, n uint64) {
		if want := map[Bound]uint64{Streams: 2}[b]; n != want {
			t.Errorf("%v: %d, want %d", b, n, want)
		}
	})
	if !errors.Is(err, cause) || err.Error() != "refused: too many" {
		t.Errorf("the error reads %q", err)
	}
	var none *Counts
	none.Refused(Streams)
	none.Note(err)
	if n := none.Of(Streams); n != 0 {
		t.Errorf("nil counts %d", n)
	}
}
