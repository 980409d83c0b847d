package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"culvert/internal/bounds"
	"culvert/internal/clientwatch"
	"culvert/tunnel/mux"
)

// errOpenTimeout is the error of openFor when the other end has not answered in time.
var errOpenTimeout = &bounds.Error{
	Bound: bounds.Open, Err: errors.New("the other end did not answer in time"),
}

// clientPolicy is for the clients of forwards.
var clientPolicy = clientwatch.Policy{Delay: clientWatchDelay, ClosedWait: closedWait}

// earlyReaders recycles the buffers of openFor.
var earlyReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, maxEarly) }}

// openFor calls open for a client that waits for the stream, and sends it what the client has sent
// meanwhile. The context of open ends after openTimeout, and when the client is gone, which is
// errNotWanted. A client that has closed its side and sent nothing may be gone or may only listen:
// it is taken to be gone after closedWait. One that was reset after it had sent data is gone, but
// its data is delivered, and then the reset; then, too, the error is errNotWanted.
func openFor(
	ctx context.Context, client net.Conn, open func(context.Context) (*mux.Stream, error),
) (*mux.Stream, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errOpenTimeout)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	in := earlyReaders.Get().(*bufio.Reader)
	in.Reset(client)
	defer func() {
		in.Reset(nil)
		earlyReaders.Put(in)
	}()
	watch := clientwatch.Start(client, in, clientPolicy, func(error) { giveUp(errNotWanted) })
	stream, err := open(ctx)
	end := watch.Stop()
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case context.Cause(ctx) == errNotWanted:
		stream.Reset(mux.CodeAborted)
		return nil, errNotWanted
	}
	if early, _ := in.Peek(in.Buffered()); len(early) > 0 {
		if _, err := stream.Write(early); err != nil {
			stream.Reset(mux.CodeAborted)
			return nil, err
		}
	}
	if end != nil && !errors.Is(end, io.EOF) {
		stream.CloseWithReset(mux.CodeAborted)
		return nil, errNotWanted
	}
	return stream, nil
}
