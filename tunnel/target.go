package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"culvert/tunnel/mux"
)

var errBadTarget = errors.New("malformed target")

// splitTarget checks an address "host:port" of a target. The host may be a name or an address; it may not be empty, which
// package net would take for this machine.
func splitTarget(address string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", 0, errBadTarget
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errBadTarget
	}
	return host, uint16(n), nil
}

// dialTarget reaches a stream's target as the rules allow. Names are resolved here, at the remote.
func dialTarget(ctx context.Context, rules *Rules, target mux.Target) (net.Conn, error) {
	switch target.Kind {
	case mux.StreamTCP:
		return rules.Dial(ctx, "tcp", target.Address)
	case mux.StreamUnix:
		return rules.DialUnix(ctx, target.Address)
	}
	return nil, errBadTarget
}

// streamTarget is the target that the user of a Local has written as host:port, or as unix: and an absolute path. A host may
// be named unix too.
func streamTarget(text string) mux.Target {
	if socket, ok := strings.CutPrefix(text, socketPrefix); ok && strings.HasPrefix(socket, "/") {
		return mux.Target{Kind: mux.StreamUnix, Address: socket}
	}
	return mux.Target{Kind: mux.StreamTCP, Address: text}
}

// dialAny connects to the first of the addresses that answers. As RFC 8305 advises, those of the other IP version get a
// chance when the version of the first has not answered in fallbackDelay. When none answers, the error is about the first
// version. The addresses are dialed as they stand: nothing is looked up.
func dialAny(ctx context.Context, network string, addrs []netip.AddrPort) (net.Conn, error) {
	first, second := splitVersions(addrs)
	if len(second) == 0 {
		return dialEach(ctx, network, first)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var firstConn, secondConn net.Conn
	var firstErr error
	failed := make(chan struct{})
	var dialing sync.WaitGroup
	dialing.Go(func() {
		if firstConn, firstErr = dialEach(ctx, network, first); firstErr == nil {
			cancel() // the other one's dial
		} else {
			close(failed)
		}
	})
	delay := time.NewTimer(fallbackDelay)
	defer delay.Stop()
	select {
	case <-failed:
	case <-delay.C:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		var err error
		if secondConn, err = dialEach(ctx, network, second); err == nil {
			cancel()
		}
	}
	dialing.Wait()
	switch {
	case firstErr == nil:
		if secondConn != nil {
			secondConn.Close()
		}
		return firstConn, nil
	case secondConn != nil:
		return secondConn, nil
	}
	return nil, firstErr
}

// splitVersions parts the addresses into those of the first one's IP version and the others.
func splitVersions(addrs []netip.AddrPort) (first, second []netip.AddrPort) {
	for _, addr := range addrs {
		if addr.Addr().Is4() == addrs[0].Addr().Is4() {
			first = append(first, addr)
		} else {
			second = append(second, addr)
		}
	}
	return first, second
}

// dialEach tries one address after the other, each for its share of the time that is left. The error is the first one.
func dialEach(ctx context.Context, network string, addrs []netip.AddrPort) (net.Conn, error) {
	var firstErr error
	for i, addr := range addrs {
		var dialer net.Dialer
		if addr.Addr().IsLoopback() {
			dialer.KeepAlive = -1 // a peer on this machine does not vanish without a word
		}
		attempt, cancel := shareTime(ctx, len(addrs)-i)
		conn, err := dialer.DialContext(attempt, network, addr.String())
		cancel()
		if err == nil {
			return conn, nil
		}
		if firstErr == nil {
			firstErr = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, firstErr
}

// shareTime returns a context for the next of n attempts.
func shareTime(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n == 1 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(time.Until(deadline)/time.Duration(n), minAttempt))
}
