package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// ServeForward joins each connection that ln accepts to target, a host:port or unix:/path as the remote sees it. When ctx is done it
// closes ln, and returns once its connections have ended, which they do with the session at the latest. A listener that
// breaks by itself is an error.
func (l *Local) ServeForward(ctx context.Context, ln net.Listener, target string) error {
	return serveConns(ctx, ln, maxForwardConns, l.cfg.Log, func(conn net.Conn) { l.forward(ctx, conn, target) })
}

// forward joins one connection to target. A target that can't be reached is a reset of the connection, since there is no
// other way to say so.
func (l *Local) forward(ctx context.Context, conn net.Conn, target string) {
	log := l.cfg.Log.With().Str("target", target).Logger()
	stream, err := l.open(ctx, streamTarget(target))
	if err != nil {
		log.Warn().Err(err).Msg("forward refused")
		abort(conn)
		return
	}
	err = relay(context.Background(), stream, conn)
	if _, refused := errors.AsType[*mux.OpenError](err); refused { // after it was opened at once
		log.Warn().Err(err).Msg("forward refused")
		return
	}
	log.Debug().Err(err).Msg("forward ended")
}

// Relay joins a client's connection to one that DialContext has opened, until both directions have ended, and closes
// both; see the front door's documentation. It fails when either was cut short.
func (l *Local) Relay(ctx context.Context, client, target net.Conn) error {
	return relay(ctx, target.(*mux.Stream), client)
}

// Stdio joins in and out to target, which is as for ServeForward. It returns when both directions have ended, or when the stream is cut short, which is
// an error. A read of in that is still blocked then is left behind; closing in ends it.
func (l *Local) Stdio(ctx context.Context, target string, in io.Reader, out io.WriteCloser) error {
	stream, err := l.open(ctx, streamTarget(target))
	if err != nil {
		return err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { stream.Reset(mux.CodeAborted) })
	defer stop()
	outward := make(chan error, 1)
	go func() {
		_, err := stream.ReadFrom(in)
		if err == nil {
			err = stream.CloseWrite()
		}
		outward <- err
	}()
	if _, err := stream.WriteTo(out); err != nil {
		stream.Reset(mux.CodeAborted)
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	select {
	case err = <-outward:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// streamTarget is the target that the user of a Local has written as host:port, or as unix: and an
// absolute path. A host may be named unix too.
func streamTarget(text string) mux.Target {
	if socket, ok := strings.CutPrefix(text, policy.UnixPrefix); ok && strings.HasPrefix(socket, "/") {
		return mux.Target{Kind: mux.StreamUnix, Address: socket}
	}
	return mux.Target{Kind: mux.StreamTCP, Address: text}
}
