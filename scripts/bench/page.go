//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"culvert/scripts/bench/load"
	"culvert/scripts/bench/proc"
	"culvert/scripts/bench/result"
)

const (
	// pageTime bounds the start of the browser and the loading of the page.
	pageTime = 90 * time.Second

	// goneTime bounds the wait for the browser's processes to exit once it is stopped.
	goneTime = 10 * time.Second

	// pagePort is the first of the page's ports.
	pagePort = 8000
)

// loadPages loads the page some times, each with loadPage. Where that is more than once, it
// measures first_s and later_s, the median of the others.
func (s *site) loadPages(ctx context.Context, chromium string, request load.Request,
	times int) (load.Values, error) {
	var took []float64
	for range times {
		values, err := s.loadPage(ctx, chromium, request)
		if err != nil || times == 1 {
			return values, err
		}
		took = append(took, values["load_s"])
	}
	return load.Values{"first_s": took[0], "later_s": result.Median(took[1:])}, nil
}

// loadPage loads the page in a browser with a new profile, while the request's bulk transfers run
// if it has any. It measures load_s.
func (s *site) loadPage(ctx context.Context, chromium string,
	request load.Request) (_ load.Values, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, request.Warmup+pageTime,
		errors.New("the page did not load"))
	defer cancel()
	if request.Bulk > 0 {
		bulk, err := s.startBulk(request)
		if err != nil {
			return nil, err
		}
		defer bulk.Stop()
		select {
		case <-time.After(request.Warmup):
		case <-bulk.Exited:
			return nil, bulk.Err()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		defer func() {
			select {
			case <-bulk.Exited: // it should have outlasted the page
				err = errors.Join(err, bulk.Err())
			default:
			}
		}()
	}
	stop, err := s.startBrowser(ctx, chromium, request.Socks)
	if err != nil {
		return nil, err
	}
	defer stop()
	return s.pageReport(ctx)
}

// startBulk starts a process that runs bulk transfers until it is stopped.
func (s *site) startBulk(request load.Request) (*proc.Process, error) {
	input, err := json.Marshal(load.Request{
		Kind: "throughput", Socks: request.Socks, Target: request.Target, Up: request.Up,
		Streams: request.Bulk, Window: request.Warmup + 2*pageTime,
	})
	if err != nil {
		return nil, err
	}
	cmd := s.near.Command(s.self, "load")
	cmd.Stdin = bytes.NewReader(input)
	return s.starter.Start("bulk", cmd)
}

// startBrowser opens the page in a browser on the near host, with a profile of its own. stop
// terminates the browser.
func (s *site) startBrowser(ctx context.Context, chromium, socks string) (stop func(), err error) {
	folder, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return nil, err
	}
	s.page++
	proxy := "--no-proxy-server"
	if socks != "" {
		proxy = "--proxy-server=socks5://" + socks
	}
	cmd := s.near.Command(chromium,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+filepath.Join(folder, "profile"), proxy,
		fmt.Sprintf("http://%s:%d/?run=%d", s.far.Address, pagePort, s.page))
	cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder)
	browser, err := s.starter.Start("chromium", cmd)
	if err != nil {
		os.RemoveAll(folder)
		return nil, err
	}
	return func() {
		browser.Stop()
		// Some of its processes have been reparented by then, and write to the profile until they
		// notice that the browser has exited.
		proc.WaitGone(folder, goneTime)
		os.RemoveAll(folder)
	}, nil
}

// pageReport waits for the report of the page opened last.
func (s *site) pageReport(ctx context.Context) (load.Values, error) {
	for {
		line, err := s.target.Line(ctx)
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != "page" || fields[1] != strconv.Itoa(s.page) {
			continue // the late report of an earlier page
		}
		took, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			return nil, fmt.Errorf("page: %w", err)
		}
		if fields[3] != strconv.Itoa(load.PageResources) {
			return nil, fmt.Errorf("page: %s of %d resources loaded", fields[3], load.PageResources)
		}
		return load.Values{"load_s": took / 1000}, nil
	}
}
