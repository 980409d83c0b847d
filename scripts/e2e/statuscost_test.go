//go:build linux

package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"culvert/internal/testnet"
)

const (
	// watchTime is how long TestIdleStatusCost observes.
	watchTime = 16 * time.Second

	// scrapePeriod is how often Prometheus often scrapes.
	scrapePeriod = 15 * time.Second

	// pagePeriod is how often a page that is visible asks for the state.
	pagePeriod = time.Second
)

// TestIdleStatusCost checks that a page that is open and a scraper cost an idle node next to
// nothing: below 1 % of a core, or some times that with the race detector.
func TestIdleStatusCost(t *testing.T) {
	t.Parallel()
	remote, local := startObserved(t)
	nodes := []*node{remote, local}
	most := 0.01
	if testnet.RaceEnabled {
		most = 0.05
	}
	for _, node := range nodes {
		body := openEvents(t, node)
		read := make(chan struct{})
		go func() {
			defer close(read)
			io.Copy(io.Discard, body) // until it is closed
		}()
		t.Cleanup(func() {
			body.Close()
			<-read
		})
	}
	began := time.Now()
	before := []time.Duration{cpuTime(t, remote.process), cpuTime(t, local.process)}
	scrape, poll := time.NewTicker(scrapePeriod), time.NewTicker(pagePeriod)
	defer scrape.Stop()
	defer poll.Stop()
	for time.Since(began) < watchTime {
		select {
		case <-scrape.C:
			for _, node := range nodes {
				getURL(t, strings.Replace(node.statusURL, "/?", "/metrics?", 1))
			}
		case <-poll.C:
			for _, node := range nodes {
				getURL(t, strings.Replace(node.statusURL, "/?", "/api/state?", 1))
			}
		}
	}
	for i, node := range nodes {
		used := (cpuTime(t, node.process) - before[i]).Seconds() / time.Since(began).Seconds()
		t.Logf("%s: %.2f %% of a core", node.name, 100*used)
		if used > most {
			t.Errorf("%s: an idle page and a scraper cost %.2f %% of a core, want at most %.0f %%",
				node.name, 100*used, 100*most)
		}
	}
}

// openEvents opens the event stream that the status page of a node reads.
func openEvents(t *testing.T, node *node) io.ReadCloser {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url := strings.Replace(node.statusURL, "/?", "/api/events?", 1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("events of %s: %s", node.name, response.Status)
	}
	return response.Body
}
