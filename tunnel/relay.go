package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"culvert/tunnel/mux"
)

// relay copies between a stream and a connection until both directions have ended, and closes both. An end of file is
// passed on as a half-close, so that the other direction lives on. A side that is cut short cuts the other short too: a
// download that breaks off must be seen to break off. When ctx ends, both are cut. It returns nil when both directions
// ended with an end of file.
func relay(ctx context.Context, stream *mux.Stream, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() {
		stream.Reset(mux.CodeAborted)
		abort(conn)
	})
	defer stop()
	delivered := make(chan error, 1)
	var sent atomic.Bool // conn has ended, and all of it went into the stream
	stream.Deliver(conn, func(err error) {
		if err != nil || !sent.Load() { // else conn is closed at once
			if end := endOfStream(conn, err); err == nil {
				err = end
			}
		}
		delivered <- err
	})
	outward := copyToStream(stream, conn)
	sent.Store(outward == nil)
	inward := <-delivered
	if inward == nil && outward == nil {
		stream.Close()
		conn.Close()
		return nil
	}
	stream.Reset(mux.CodeAborted)
	abort(conn)
	if outward != nil {
		return outward
	}
	return inward
}

// endOfStream passes on to conn that nothing comes any more. When the stream was cut short, conn is too, at once: its own
// reader may wait for ever. When conn takes no more, its other direction ends soon by itself and may still bring data, so it
// is left alone.
func endOfStream(conn net.Conn, err error) error {
	if err == nil {
		return closeWrite(conn)
	}
	if _, ours := errors.AsType[*mux.CopyError](err); !ours {
		abort(conn)
	}
	return nil
}

// copyToStream copies from conn, and treats its ends as endOfStream does.
func copyToStream(stream *mux.Stream, conn net.Conn) error {
	_, err := stream.ReadFrom(conn)
	if err == nil {
		return stream.CloseWrite()
	}
	if _, ours := errors.AsType[*mux.CopyError](err); ours {
		stream.Reset(mux.CodeAborted)
	}
	return err
}

// Join copies between two connections of package net, or such as ReverseListener accepts, as Relay does.
func Join(ctx context.Context, a, b net.Conn) error {
	stop := context.AfterFunc(ctx, func() {
		abort(a)
		abort(b)
	})
	defer stop()
	var forth error
	var wg sync.WaitGroup
	wg.Go(func() { forth = pipe(b, a) })
	back := pipe(a, b)
	wg.Wait()
	if forth == nil && back == nil {
		a.Close()
		b.Close()
		return nil
	}
	abort(a)
	abort(b)
	if forth != nil {
		return forth
	}
	return back
}

// pipe copies from one connection to another, and treats their ends as endOfStream does.
func pipe(to, from net.Conn) error {
	w := &watchedWriter{w: to}
	_, err := io.Copy(w, from)
	switch {
	case err == nil:
		return closeWrite(to)
	case w.err == nil:
		abort(to)
	}
	return err
}

// watchedWriter tells which side of a copy has failed.
type watchedWriter struct {
	w   io.Writer
	err error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// closeWrite half-closes a connection that can be half-closed, and closes any other: its peer could not learn of the end
// in any other way.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return conn.Close()
}

// abort closes a connection so that its peer sees it cut short: with a TCP reset where it is TCP.
func abort(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}
