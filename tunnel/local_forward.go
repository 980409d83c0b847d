package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// ServeForward joins each connection that ln accepts to target, a host:port or unix:/path as the
// remote sees it. When ctx is done it closes ln, and returns once its connections have ended, which
// happens at the latest when the session ends. It returns an error only when ln fails.
func (l *Local) ServeForward(ctx context.Context, ln net.Listener, target string) error {
	log := forwardLog(l.cfg.Log, target)
	defer log.close()
	return serveConns(ctx, retrying(ln, l.cfg.Log), maxForwardConns, func(conn net.Conn) {
		l.forward(ctx, conn, target, log)
	})
}

// forward joins one connection to target. When the target is unreachable it resets the connection:
// there is no other way to report that.
func (l *Local) forward(ctx context.Context, conn net.Conn, target string, log *limitedLog) {
	stream, err := openFor(ctx, conn, func(ctx context.Context) (*mux.Stream, error) {
		return l.open(ctx, streamTarget(target))
	})
	if err != nil {
		l.cfg.Bounds.Note(err)
		log.at(unreachedLevel(ctx, err)).Err(err).Msg("forward refused")
		abort(conn)
		return
	}
	stream.SetLabel(conn.LocalAddr().String())
	err = l.relay(l.relaying, stream, conn)
	if _, refused := errors.AsType[*mux.OpenError](err); refused { // it was opened at once
		log.at(zerolog.WarnLevel).Err(err).Msg("forward refused")
		return
	}
	log.at(zerolog.DebugLevel).Err(err).Msg("forward ended")
}

// Relay joins the connection of a client to one that DialContext has returned. It returns when both
// directions have ended, and closes both connections. It returns an error when either was cut
// short.
func (l *Local) Relay(ctx context.Context, client, target net.Conn) error {
	return l.relay(ctx, target.(*mux.Stream), client)
}

// relay is the function relay, except that a stream is opened again, in another session, when its
// own has lost it before the remote has answered and anything was sent.
func (l *Local) relay(ctx context.Context, stream *mux.Stream, client net.Conn) error {
	if l.clients.Add(1) > usualClients {
		boundReceiving(client)
	}
	defer l.clients.Add(-1)
	for {
		r := &relayed{stream: stream, conn: client, movable: true}
		err := r.run(ctx)
		unsent, ok := errors.AsType[*unsentError](err)
		if !ok {
			return err
		}
		if stream, err = l.openAgain(ctx, stream, unsent.data, client); err != nil {
			abort(client)
			return err
		}
	}
}

// openAgain opens a stream that has ended in another session, and sends what the client had sent.
func (l *Local) openAgain(
	ctx context.Context, last *mux.Stream, unsent []byte, client net.Conn,
) (*mux.Stream, error) {
	return openFor(ctx, client, func(ctx context.Context) (*mux.Stream, error) {
		stream, err := l.open(ctx, last.Target())
		if err != nil {
			return nil, err
		}
		stream.SetLabel(last.Label())
		if _, err := stream.Write(unsent); err != nil {
			stream.Reset(mux.CodeAborted)
			return nil, err
		}
		return stream, nil
	})
}

// errStreamCut is why not all that came from standard input has arrived.
var errStreamCut = errors.New("the stream was cut short")

// Stdio joins in and out to target, which is as for ServeForward. It returns when both directions
// have ended and the remote has all that came from in, or with an error when the stream is cut
// short or ctx is done. By then it has closed in and out; closing them has to end calls that are
// blocked. Once the target is reached it calls sent, unless that is nil, as soon as the remote has
// all that came from in, or with the error because of which that will not be so.
func (l *Local) Stdio(
	ctx context.Context, target string, in io.ReadCloser, out io.WriteCloser, sent func(error),
) error {
	defer in.Close()
	defer out.Close()
	opening, cancel := context.WithTimeoutCause(ctx, openTimeout, errOpenTimeout)
	stream, err := l.open(opening, streamTarget(target))
	if err != nil && ctx.Err() == nil && opening.Err() != nil {
		err = context.Cause(opening)
		l.cfg.Bounds.Note(err)
	}
	cancel()
	if err != nil {
		return err
	}
	stream.SetLabel(labelStdio)
	defer stream.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	defer context.AfterFunc(ctx, func() {
		stream.Reset(mux.CodeAborted)
		in.Close()
		out.Close()
	})()
	outward := make(chan error, 1)
	awaiting, stopAwaiting := context.WithCancel(ctx)
	defer stopAwaiting()
	sending.Go(func() {
		err := sendAll(awaiting, stream, in)
		if err == nil && stream.HasLeft() {
			err = errStreamCut
		}
		outward <- err
		if sent != nil {
			sent(err)
		}
	})
	_, err = stream.WriteTo(out)
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		err = <-outward
	}
	if err != nil {
		stopAwaiting()
		stream.CloseWithReset(mux.CodeAborted)
		in.Close()
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sendAll sends what comes from in, and waits until the remote has it, or the stream is cut short
// from the other side.
func sendAll(ctx context.Context, stream *mux.Stream, in io.Reader) error {
	_, err := stream.ReadFrom(in)
	if _, ours := errors.AsType[*mux.CopyError](err); ours {
		stream.CloseWithReset(mux.CodeAborted)
	}
	if err == nil {
		err = stream.CloseWrite()
	}
	if err == nil {
		err = stream.AwaitSent(ctx)
	}
	return err
}

// streamTarget parses the target that a user of a Local gives, host:port or unix: and an absolute
// path. A host may be named unix, too.
func streamTarget(text string) mux.Target {
	if socket, ok := strings.CutPrefix(text, policy.UnixPrefix); ok &&
		strings.HasPrefix(socket, "/") {
		return mux.Target{Kind: mux.StreamUnix, Address: socket}
	}
	return mux.Target{Kind: mux.StreamTCP, Address: text}
}
