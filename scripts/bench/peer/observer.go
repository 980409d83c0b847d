package peer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// observer reads what an end of culvert reports about itself: the events, and the state every
// pagePeriod, as its status page does, and the metrics every scrapePeriod.
type observer struct {
	cancel  context.CancelFunc
	reading sync.WaitGroup
}

// observe starts observing. The URL is that of the status page, with its token.
func observe(page string) (*observer, error) {
	base, err := url.Parse(page)
	if err != nil {
		return nil, err
	}
	token := base.RawQuery
	at := func(path, query string) string {
		address := *base
		address.Path, address.RawQuery = path, query
		return address.String()
	}
	events, metrics := at("/api/events", token), at("/metrics", "")
	ctx, cancel := context.WithCancel(context.Background())
	o := &observer{cancel: cancel}
	for _, address := range []string{metrics, events} { // both answer, or nothing is measured
		body, err := get(ctx, address)
		if err != nil {
			o.stop()
			return nil, err
		}
		if address == metrics {
			body.Close()
			continue
		}
		o.reading.Go(func() {
			io.Copy(io.Discard, body) // its error is that the program or the observer has ended
			body.Close()
		})
	}
	o.reading.Go(func() { read(ctx, metrics, scrapePeriod) })
	o.reading.Go(func() { read(ctx, at("/api/state", token), pagePeriod) })
	return o, nil
}

// read reads what is at an address in each period until ctx is done.
func read(ctx context.Context, address string, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if body, err := get(ctx, address); err == nil {
			io.Copy(io.Discard, body)
			body.Close()
		}
	}
}

func get(ctx context.Context, address string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", request.URL.Path, response.Status)
	}
	return response.Body, nil
}

// stop ends the observer.
func (o *observer) stop() {
	o.cancel()
	o.reading.Wait()
}
