package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/proxy"
)

// Request describes a load and what to measure.
type Request struct {
	Kind   string `json:"kind"`   // a key of kinds
	Socks  string `json:"socks"`  // the proxy's address; empty: no proxy
	Target string `json:"target"` // the target's address

	Streams int           `json:"streams"` // of what is measured
	Bytes   int64         `json:"bytes"`   // of a transfer that ends
	Up      bool          `json:"up"`      // uploads, not downloads
	Bulk    int           `json:"bulk"`    // streams that move data during the measurement
	Warmup  time.Duration `json:"warmup"`  // how long bulk runs before the measurement begins
	Window  time.Duration `json:"window"`  // how long the measurement takes
	Ports   []int         `json:"ports"`   // of the target's host, each of which is new to the proxy
	// processes whose CPU time and memory are measured, including descendants
	PIDs []int `json:"pids"`

	Rival string `json:"rival"` // congestion control of the rival; empty: the system's

	// Of culvert's remote, to which the load connects by itself.
	Remote    string   `json:"remote"`     // URL
	RemoteKey string   `json:"remote_key"` // as the remote prints it
	Clients   []string `json:"clients"`    // secret keys in hexadecimal, one for each session
}

// Values are the measured values by name; a name ends in its unit.
type Values map[string]float64

// kinds are the loads.
var kinds = map[string]func(context.Context, Request) (Values, error){
	"ready":      ready,
	"throughput": throughput,
	"echo":       echoes,
	"connect":    connect,
	"first":      firstByte,
	"idle":       idle,
	"hold":       hold,
	"cold":       cold,
	"rival":      rival,
	"memory":     memory,
	"many":       many,
}

// Run runs a load.
func Run(ctx context.Context, r Request) (Values, error) {
	run, ok := kinds[r.Kind]
	if !ok {
		return nil, fmt.Errorf("no load %q", r.Kind)
	}
	return run(ctx, r)
}

// dial opens a connection to the target, or another port of its host.
func (r Request) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	direct := &net.Dialer{}
	if r.Socks == "" {
		return direct.DialContext(ctx, "tcp", address)
	}
	socks, err := proxy.SOCKS5("tcp", r.Socks, nil, direct)
	if err != nil {
		return nil, err
	}
	through, ok := socks.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("the SOCKS5 client takes no context")
	}
	return through.DialContext(ctx, "tcp", address)
}

// open dials the target and sends the byte that selects the kind of connection.
func (r Request) open(ctx context.Context, kind byte) (net.Conn, error) {
	conn, err := r.dial(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{kind}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// openEcho opens a connection for echoes and waits for the echo of a first byte.
func (r Request) openEcho(ctx context.Context, address string) (net.Conn, error) {
	conn, err := r.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := firstEcho(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// firstEcho makes a new connection one for echoes, and waits for the echo of a first byte.
func firstEcho(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(dialTime))
	_, err := conn.Write([]byte{echo, 0})
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		return fmt.Errorf("first byte: %w", err)
	}
	return conn.SetDeadline(time.Time{})
}

// ready waits until connections through the proxy reach the target.
func ready(ctx context.Context, r Request) (Values, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		conn, err := r.openEcho(ctx, r.Target)
		if err == nil {
			conn.Close()
			return Values{}, nil
		}
		select {
		case <-time.After(readyPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("not ready: %w", err)
		}
	}
}

// wait waits for a duration. It returns the cause if ctx is done first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
