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

// relay copies between a stream and a connection until both directions have ended, and closes both.
// It passes an end of file on as a half-close, so that the other direction continues. When one side
// is cut short it cuts the other short too: a truncated download must be seen as truncated. When
// ctx ends, both are cut short. It returns nil when both directions ended with an end of file.
func relay(ctx context.Context, stream *mux.Stream, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() {
		stream.Reset(mux.CodeAborted)
		abort(conn)
	})
	defer stop()
	delivered := make(chan error, 1)
	var sent atomic.Bool // all of conn, to its end, has gone into the stream
	stream.Deliver(conn, func(err error) {
		if err != nil || !sent.Load() { // otherwise relay closes conn at once
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

// endOfStream passes the end of a stream on to conn. When the stream was cut short it cuts conn
// short at once, since a reader of conn could wait forever. When conn accepts no more data,
// endOfStream leaves it alone: its other direction ends soon by itself and may still bring data.
func endOfStream(conn net.Conn, err error) error {
	if err == nil {
		return closeWrite(conn)
	}
	if _, ours := errors.AsType[*mux.CopyError](err); !ours {
		abort(conn)
	}
	return nil
}

// copyToStream copies from conn to the stream, and treats their ends as endOfStream does.
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

// Join copies between two connections as Local.Relay does. They come from package net or from
// ReverseListener.Accept.
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
	w := &writeErrors{w: to}
	_, err := io.Copy(w, from)
	switch {
	case err == nil:
		return closeWrite(to)
	case w.err == nil:
		abort(to)
	}
	return err
}

// writeErrors keeps the last error of a writer, to tell which side of a copy has failed.
type writeErrors struct {
	w   io.Writer
	err error
}

func (w *writeErrors) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// closeWrite half-closes a connection. It closes one that can't be half-closed: its peer could not
// see the end otherwise.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return conn.Close()
}

// abort closes a connection so that its peer sees it cut short: TCP sends a reset.
func abort(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}
