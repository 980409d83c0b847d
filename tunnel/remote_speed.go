package tunnel

import (
	"context"
	"errors"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/tcpinfo"
	"culvert/tunnel/mux"
	"culvert/tunnel/speed"
)

// remoteTest is a speed test of a session.
type remoteTest struct {
	*speed.Server
	ctx context.Context // ends with the test
}

// serveService serves a stream that leads to the remote itself.
func (s *remoteSession) serveService(in *mux.IncomingStream, client clientStream) {
	switch service := in.Target().Address; service {
	case speed.Control:
		s.serveTest(in, client)
	case speed.Download, speed.Upload:
		test := s.test.Load()
		if test == nil {
			in.Refuse(mux.CodeBadTarget, "")
			return
		}
		s.serveTestStream(in, client, test)
	default:
		in.Refuse(mux.CodeBadTarget, "")
	}
}

// serveTest serves the control stream of a speed test, which lasts as long as that.
func (s *remoteSession) serveTest(in *mux.IncomingStream, client clientStream) {
	r := s.remote
	if code := r.takeTest(client.remoteClient); code != 0 {
		in.Refuse(code, "")
		return
	}
	defer r.leaveTest(client.remoteClient)
	ctx, cancel := context.WithTimeout(s.ctx, speed.MaxTime)
	defer cancel()
	test := &remoteTest{speed.NewServer(s.tcpInfo, client.meter.bounds), ctx}
	if !s.test.CompareAndSwap(nil, test) {
		in.Refuse(mux.CodeServiceBusy, "")
		return
	}
	defer s.test.Store(nil)
	began := time.Now()
	s.serveTestStream(in, client, test)
	sent, received := test.Carried()
	s.asked.Info().Int64("sent_bytes", sent).Int64("received_bytes", received).
		Dur("duration", shortTime(time.Since(began))).Msg("speed test")
}

// serveTestStream serves a stream of a speed test until that ends, or the client may carry no more.
func (s *remoteSession) serveTestStream(
	in *mux.IncomingStream, client clientStream, test *remoteTest,
) {
	stream, err := in.Confirm()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(test.ctx)
	defer cancel(nil)
	lifetime := client.meter.lifetime(s.ctx)
	defer context.AfterFunc(lifetime, func() { cancel(context.Cause(lifetime)) })()
	err = test.Serve(ctx, in.Target().Address, &meteredStream{stream, ctx, client.meter})
	switch {
	case err == nil, errors.Is(err, speed.ErrBytes):
		stream.Close()
	case errors.Is(err, errQuota):
		stream.Reset(mux.CodeQuota)
	default:
		stream.Reset(mux.CodeAborted)
	}
}

// meteredStream is a stream whose reads and writes take as long as a meter wants. Those of the
// session alone are not metered.
type meteredStream struct {
	*mux.Stream
	ctx   context.Context // ends the waits
	meter *clientMeter
}

// Read implements net.Conn.
func (s *meteredStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(s.piece(mux.FromPeer, p))
	if waited := s.wait(mux.FromPeer, n); err == nil {
		err = waited
	}
	return n, err
}

// Write implements net.Conn.
func (s *meteredStream) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		piece := s.piece(mux.ToPeer, p[written:])
		if err = s.wait(mux.ToPeer, len(piece)); err != nil {
			break
		}
		var n int
		n, err = s.Stream.Write(piece)
		written += n
	}
	return written, err
}

// piece returns what of p may be carried at once.
func (s *meteredStream) piece(d mux.Direction, p []byte) []byte {
	if most := s.meter.Piece(d); most > 0 {
		return p[:min(most, len(p))]
	}
	return p
}

// wait counts n bytes and waits until they may be carried.
func (s *meteredStream) wait(d mux.Direction, n int) error {
	pause := s.meter.Reserve(d, n)
	if pause > 0 && !sleep(s.ctx, pause) {
		return context.Cause(s.ctx)
	}
	return nil
}

// takeTest takes a place for a speed test, or returns why there is none.
func (r *Remote) takeTest(client *remoteClient) mux.Code {
	if r.cfg.NoSpeed {
		return mux.CodeServiceOff
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if client.tests >= clientTests {
		r.cfg.Bounds.Refused(bounds.ClientTests)
		return mux.CodeServiceBusy
	}
	if !r.tests.take() {
		r.cfg.Bounds.Refused(bounds.Tests)
		return mux.CodeServiceBusy
	}
	client.tests++
	return 0
}

func (r *Remote) leaveTest(client *remoteClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client.tests--
	r.tests.leave()
}

// tcpInfo returns what the system knows of the session's connection, nil for nothing.
func (s *remoteSession) tcpInfo() *tcpinfo.Info { return tcpInfoOf(s.Carrier()) }
