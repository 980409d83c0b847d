package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"culvert/internal/testnet"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// A dial ends when its client gives up, and is nothing to warn of then. One whose client has sent
// something and was cut short goes on: the target is to get that.
func TestDialWhileWanted(t *testing.T) {
	for name, test := range map[string]struct {
		end    func(stream *mux.Stream)
		wanted bool
	}{
		"gives up":  {func(stream *mux.Stream) { stream.Close() }, false},
		"cut short": {func(stream *mux.Stream) { stream.CloseWithReset(mux.CodeAborted) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := muxPair(t)
			stream, err := near.OpenAtOnce(mux.Target{Kind: mux.StreamTCP, Address: "h:1"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(stream, "said")
			in, err := far.Accept(testnet.Within(t, patience))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			reached, conn := make(chan struct{}), new(net.TCPConn)
			dialed := make(chan error, 1)
			dial := func(ctx context.Context) (net.Conn, error) {
				select {
				case <-reached:
					return conn, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			go func() {
				got, err := dialWhileWanted(t.Context(), in, dial)
				if err == nil && got != conn {
					t.Errorf("%s: another connection", name)
				}
				dialed <- err
			}()
			synctest.Wait()
			test.end(stream)
			synctest.Wait()
			close(reached)
			err = <-dialed
			if test.wanted {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if !errors.Is(err, errNotWanted) ||
				unreachedLevel(t.Context(), err) != zerolog.DebugLevel {
				t.Errorf("%s: %v, at level %v", name, err, unreachedLevel(t.Context(), err))
			}
			in.Refuse(mux.CodeRefused, "")
		})
	}
	if level := unreachedLevel(t.Context(), io.EOF); level != zerolog.WarnLevel {
		t.Errorf("another failure is logged at level %v", level)
	}
}
