package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"culvert/internal/netfault"
	"culvert/internal/state"
)

// noDeadline is none.
var noDeadline time.Time

// ErrNotRunning means that no node has the name.
var ErrNotRunning = errors.New("no node with this name is running")

// ErrUnknown means that the node doesn't know what it was asked for: it is of another version.
var ErrUnknown = errors.New("it doesn't know this command: it is of another version")

// Client asks a node. It must be closed.
type Client struct {
	http      *http.Client
	transport *http.Transport
	path      string // of the socket
}

// Open returns a client of the node with a name. Its first request shows whether that is running.
func Open(name string) (*Client, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	path, err := find(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if errors.Is(err, fs.ErrNotExist) || netfault.Is(err, syscall.ECONNREFUSED) {
				err = fmt.Errorf("%w: %w", ErrNotRunning, err)
			}
			return conn, err
		},
		MaxIdleConns:    1,
		IdleConnTimeout: idleTimeout,
	}
	return &Client{&http.Client{Transport: transport}, transport, path}, nil
}

// IsRunning reports whether a node has a name, even if it doesn't answer.
func IsRunning(name string) bool {
	path, err := find(name)
	return err == nil && isHeld(strings.TrimSuffix(path, socketSuffix)+lockSuffix)
}

// Close closes the connection to the node.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// State asks for a snapshot.
func (c *Client) State(ctx context.Context) (s state.State, err error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	return s, c.call(ctx, http.MethodGet, "state", nil, &s)
}

// Reload makes the node reload, as SIGUSR1 does. It waits until a remote has; a local only begins.
func (c *Client) Reload(ctx context.Context) error {
	return c.bounded(ctx, "reload", nil, nil)
}

// ReloadAndMove is Reload, and then makes all clients of the node open other sessions, for which it
// doesn't wait.
func (c *Client) ReloadAndMove(ctx context.Context) error {
	return c.bounded(ctx, "reload/drain", nil, nil)
}

// Restart makes a remote start another process, of the version that is installed now, which takes
// its place, and waits until that serves.
func (c *Client) Restart(ctx context.Context) error {
	return c.bounded(ctx, "restart", nil, nil)
}

// AddForward adds a forward, and returns the address on which it listens.
func (c *Client) AddForward(ctx context.Context, f Forward) (address string, err error) {
	var added Added
	err = c.bounded(ctx, "forwards/add", f, &added)
	return added.Address, err
}

// CancelForward ends the listener of a forward. Its connections continue.
func (c *Client) CancelForward(ctx context.Context, f Forward) error {
	return c.bounded(ctx, "forwards/cancel", f, nil)
}

// Stop makes the node drain and end, as SIGTERM does, and waits until it has ended.
func (c *Client) Stop(ctx context.Context) error {
	response, err := c.send(ctx, http.MethodPost, "stop", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return failure(response)
	}
	io.Copy(io.Discard, response.Body) // its error is how the node has ended
	return ctx.Err()
}

// bounded makes a request that changes something.
func (c *Client) bounded(ctx context.Context, path string, body, result any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return c.call(ctx, http.MethodPost, path, body, result)
}

// call makes a request and decodes the result, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, body, result any) error {
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return failure(response)
	}
	if result == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(response.Body, maxReply)).Decode(result)
}

func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	url := "http://culvert/v1/" + path
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return c.http.Do(request)
}

// failure reads the error of an answer.
func failure(response *http.Response) error {
	if response.StatusCode == http.StatusNotFound {
		return ErrUnknown
	}
	refusal := &Error{}
	err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(refusal)
	if err != nil || refusal.What == "" {
		return fmt.Errorf("the node answers %s", response.Status)
	}
	return refusal
}
