package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// serveConns handles each connection that ln accepts on a goroutine of its own, most at a time. When ctx is done it closes
// ln, and returns once every handler has. A listener that breaks by itself is an error.
func serveConns(ctx context.Context, ln net.Listener, most int, log zerolog.Logger, handle func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	places := make(chan struct{}, most)
	pause := acceptPauseMin
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.Accept()
		if err == nil {
			pause = acceptPauseMin
			conns.Go(func() {
				handle(conn)
				<-places
			})
			continue
		}
		<-places
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, say: it may pass
			log.Warn().Err(err).Msg("accept")
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, acceptPauseMax)
		}
	}
}

// onceListener is a listener for several who close it: the address is free when any call of Close returns. That of package
// net waits for the descriptor to be closed in the first call only.
type onceListener struct {
	net.Listener
	once sync.Once
	err  error
}

// Close closes the listener.
func (l *onceListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

// oncePackets is a UDP socket for several who close it, as onceListener is a listener.
type oncePackets struct {
	*net.UDPConn
	once sync.Once
	err  error
}

// Close closes the socket.
func (c *oncePackets) Close() error {
	c.once.Do(func() { c.err = c.UDPConn.Close() })
	return c.err
}

// ListenUnix binds a socket that only its owner may connect to. The file of a process that has gone is replaced.
func ListenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, syscall.EADDRINUSE
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		}
	}
	// The mode is set before the name is: a socket in the folder of a moment ago can't be raced for.
	private, err := os.MkdirTemp(filepath.Dir(path), ".culvert-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	inside := filepath.Join(private, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: inside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(inside, 0o600), os.Link(inside, path)); err != nil {
		ln.Close()
		return nil, err
	}
	return &unixListener{ln, path}, nil
}

// unixListener has the address of its file, and removes that when it is closed.
type unixListener struct {
	net.Listener
	path string
}

// Addr returns the file's path as it was given.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	err := l.Listener.Close()
	if !errors.Is(err, net.ErrClosed) {
		os.Remove(l.path)
	}
	return err
}
