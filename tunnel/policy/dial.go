package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"culvert/internal/netfault"
)

// ErrBadTarget is the error for a target or an address to bind that is malformed.
var ErrBadTarget = errors.New("malformed target")

// Dial connects to a target, whose address is host:port, at one of the addresses that Resolve
// returns. A UDP socket goes on with the next address when one refuses what is sent, until one has
// answered. It has no deadlines if there are several.
func (r *Rules) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := splitTarget(address)
	if err != nil {
		return nil, err
	}
	addrs, err := r.Resolve(ctx, network, host, port)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(network, "udp") {
		return connectUDP(ctx, addrs, udpDialer(net.Dialer{}, network))
	}
	return dialAny(ctx, network, addrs)
}

// DialUnix connects to a unix socket. It is forbidden unless a rule allows it by its path and none
// denies it.
func (r *Rules) DialUnix(ctx context.Context, socket string) (net.Conn, error) {
	if !isSocketPath(socket) {
		return nil, ErrBadTarget
	}
	if !r.allowsSocket(socket) {
		return nil, ErrNotAllowed
	}
	return dialUnix(ctx, net.Dialer{}, socket)
}

// dialUnix connects to a unix socket. On Linux, a call that doesn't block fails at once when the
// queue of connections is full; package net doesn't wait for room either.
func dialUnix(ctx context.Context, dialer net.Dialer, socket string) (net.Conn, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err == nil || !netfault.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: its queue of connections is full", context.Cause(ctx))
		}
	}
}

// splitTarget splits and checks the address "host:port" of a target. The host may be a name or an
// address. It may not be empty, which package net would take for this machine.
func splitTarget(address string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", 0, ErrBadTarget
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, ErrBadTarget
	}
	return host, uint16(n), nil
}

// dialAny connects to the first of the addresses that answers. As RFC 8305 advises, those of the
// other IP version are tried too when the version of the first has not answered within
// fallbackDelay. When none answers, the error is about the first version. Nothing is looked up.
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
			cancel() // the other version's dial
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

// splitVersions separates the addresses of the first one's IP version from the others.
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

// dialEach tries one address after the other, each for its share of the time that is left. The
// error is the first one.
func dialEach(ctx context.Context, network string, addrs []netip.AddrPort) (net.Conn, error) {
	var firstErr error
	for i, addr := range addrs {
		var dialer net.Dialer
		if addr.Addr().IsLoopback() {
			dialer.KeepAliveConfig = LoopbackKeepAlive()
		}
		attempt, cancel := shareTime(ctx, len(addrs)-i)
		conn, err := Connect(attempt, dialer, network, addr.String())
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

// LoopbackKeepAlive is for TCP connections within this machine. Their peers seldom vanish silently:
// one that closes while we read nothing, so that its last data has no room, is forgotten by Linux
// after some minutes without a reset. A probe is then answered by one. It is rare, since each idle
// connection costs as much.
func LoopbackKeepAlive() net.KeepAliveConfig {
	// The system's own values do for what no answer comes to.
	return net.KeepAliveConfig{Enable: true, Idle: loopbackIdle, Interval: -1, Count: -1}
}

// shareTime returns a context for the next of n attempts.
func shareTime(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n == 1 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(time.Until(deadline)/time.Duration(n), minAttempt))
}
