package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"culvert/scripts/bench/proc"
)

// many compares a remote that has a session for each of the request's clients, all with as many
// streams as it says, with one that has a single session. The busy streams are downloads, each of
// another session, or all of the single one; the other streams are idle.
//
// It measures what the busy streams move in many sessions, and then in the single one, each without
// a limit: mb_per_s, one_mb_per_s and ratio, with the remote's cpu_s_per_gb and one_cpu_s_per_gb.
// In between, it measures the echo of streams of idle sessions while the busy ones move half as
// much: p50_ms, p90_ms, p99_ms and paced_mb_per_s. The memory of the remote, which has not moved
// anything before, grows by kb_per_session for each session without streams, and by kb_per_stream
// for each stream. connected_per_s is how many sessions were made a second; there are sessions with
// streams together, which are fewer than asked for where the system doesn't permit as many open
// files.
func many(ctx context.Context, r Request) (Values, error) {
	if r.Bulk >= len(r.Clients) || r.Streams < 1 {
		return nil, errors.New("too few idle sessions or streams")
	}
	values, err := manySessions(ctx, r)
	if err != nil {
		return nil, err
	}
	single, err := singleSession(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("one session: %w", err)
	}
	values["one_mb_per_s"], values["one_cpu_s_per_gb"] = single["mb_per_s"], single["cpu_s_per_gb"]
	values["ratio"] = values["mb_per_s"] / single["mb_per_s"]
	return values, nil
}

// manySessions is many without the single session.
func manySessions(ctx context.Context, r Request) (Values, error) {
	streams, err := manyStreams(r)
	if err != nil {
		return nil, err
	}
	before := proc.Tree(r.PIDs...).Memory()
	began := time.Now()
	s, err := openSessions(ctx, r, len(r.Clients))
	if err != nil {
		return nil, err
	}
	defer s.close()
	values := Values{"sessions": float64(len(r.Clients)), "streams": float64(streams),
		"connected_per_s": float64(len(r.Clients)) / time.Since(began).Seconds()}
	if err := wait(ctx, settleTime); err != nil {
		return nil, err
	}
	connected := proc.Tree(r.PIDs...).Memory()
	values["kb_per_session"] = (connected - before) / 1024 / float64(len(r.Clients))

	idle, err := openManyIdle(ctx, r, s, streams-r.Bulk)
	defer closeAll(idle)
	if err != nil {
		return nil, err
	}
	after := proc.Tree(r.PIDs...).Memory()
	values["kb_per_stream"] = (after - connected) / 1024 / float64(len(idle))
	return values, manyBusy(ctx, r, s, idle, values)
}

// manyStreams returns how many streams there can be: each is an open file of the remote and one of
// the target, whose limits are this process's.
func manyStreams(r Request) (int, error) {
	files, err := proc.MaxFiles()
	if err != nil {
		return 0, err
	}
	streams := min(len(r.Clients)*r.Streams, files-len(r.Clients)-spareFiles)
	if streams < 2*len(r.Clients) && r.Streams > 1 || streams <= r.Bulk {
		return 0, fmt.Errorf("%d open files are permitted, which is too few for %d sessions", files,
			len(r.Clients))
	}
	return streams, nil
}

// singleSession measures the busy streams in one session.
func singleSession(ctx context.Context, r Request) (Values, error) {
	s, err := openSessions(ctx, r, 1)
	if err != nil {
		return nil, err
	}
	defer s.close()
	b, err := startDownloads(ctx, s.dials(r.Bulk, r.Target), []byte{download})
	if err != nil {
		return nil, err
	}
	defer b.stop()
	return b.rate(ctx, r)
}

// openManyIdle opens n idle streams, which are one less in the sessions that will be busy: the
// first ones. It returns one stream of each session, those of the busy ones last, then another of
// each, and so on, when they have settled. The caller closes the streams, even on error.
func openManyIdle(ctx context.Context, r Request, s *sessions, n int) ([]net.Conn, error) {
	host, _, err := net.SplitHostPort(r.Target)
	if err != nil {
		return nil, err
	}
	addresses := []string{r.Target}
	for _, port := range r.Ports {
		addresses = append(addresses, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	conns := make([]net.Conn, n)
	err = concurrently(ctx, opening, len(conns), func(ctx context.Context, i int) error {
		session := len(s.locals) - 1 - i%len(s.locals)
		conn, err := s.dial(ctx, session, addresses[i%len(addresses)])
		if err != nil {
			return err
		}
		conns[i] = conn
		return firstEcho(conn)
	})
	if err == nil {
		err = wait(ctx, settleTime)
	}
	if err != nil {
		return conns, fmt.Errorf("%d of %d streams were opened: %w", len(conns)-missing(conns),
			len(conns), err)
	}
	return conns, nil
}

// manyBusy adds what is measured while the first of many sessions are busy. The first of the idle
// streams belong to sessions that aren't.
func manyBusy(ctx context.Context, r Request, s *sessions, idle []net.Conn, values Values) error {
	dials := s.dials(r.Bulk, r.Target)
	free, err := startDownloads(ctx, dials, []byte{download})
	if err != nil {
		return err
	}
	moved, err := free.rate(ctx, r)
	free.stop()
	if err != nil {
		return fmt.Errorf("many sessions: %w", err)
	}
	values["mb_per_s"], values["cpu_s_per_gb"] = moved["mb_per_s"], moved["cpu_s_per_gb"]

	half := moved["mb_per_s"] * 1e6 / 2 / float64(r.Bulk)
	slow, err := startDownloads(ctx, dials,
		binary.BigEndian.AppendUint64([]byte{paced}, uint64(half)))
	if err != nil {
		return err
	}
	defer slow.stop()
	if err := wait(ctx, r.Warmup); err != nil {
		return err
	}
	rate, err := slow.measured(func() error {
		echo, err := echoValues(ctx, idle[:len(s.locals)-r.Bulk], r.Window, loadedPause)
		for name, value := range echo {
			values[name] = value
		}
		return err
	})
	values["paced_mb_per_s"] = rate / 1e6
	return err
}
