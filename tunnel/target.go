package tunnel

import (
	"context"
	"errors"
	"net"
	"strconv"

	"culvert/tunnel/mux"
)

var errBadTarget = errors.New("malformed target")

// splitTarget checks an address "host:port" of a target. The host may be a name or an address; it may not be empty, which
// package net would take for this machine.
func splitTarget(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", "", errBadTarget
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errBadTarget
	}
	return host, port, nil
}

// dialTarget reaches a stream's target. Names are resolved here, at the remote.
func dialTarget(ctx context.Context, target mux.Target) (net.Conn, error) {
	if target.Kind != mux.StreamTCP {
		return nil, errBadTarget
	}
	if _, _, err := splitTarget(target.Address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", target.Address)
}
