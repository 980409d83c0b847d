package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/printable"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// reverseBind is an address that the remote has bound for this local. It outlives a lost WebSocket
// together with the session; when the session is replaced, it is bound again. The remote opens its
// streams, one for each connection or client of a UDP port.
type reverseBind struct {
	local    *Local
	bind     string         // as for policy.ParseBind
	kind     mux.StreamKind // of its streams
	log      zerolog.Logger
	ctx      context.Context // ends when it is closed
	cancel   context.CancelFunc
	keeping  sync.WaitGroup
	incoming chan mux.Incoming // streams that wait for next

	mu      sync.Mutex      // guards all below
	bound   string          // the address that the remote has bound
	control *reverseControl // the newest; nil before the first
	closed  bool
}

// reverseID identifies the control stream of a reverseBind among those of all sessions of a local.
type reverseID struct {
	session *mux.Session
	stream  uint32
}

// bindReverse binds an address at the remote. The error is a *mux.OpenError when the remote has
// refused. Once bound, the address is bound again whenever that ends, and trouble with it is
// logged.
func (l *Local) bindReverse(
	ctx context.Context, bind string, kind mux.StreamKind,
) (*reverseBind, error) {
	rb := &reverseBind{
		local:    l,
		bind:     bind,
		kind:     kind,
		incoming: make(chan mux.Incoming, maxWaitingReverse),
	}
	address := strings.TrimPrefix(strings.TrimPrefix(bind, policy.TCPPrefix), policy.UDPPrefix)
	rb.log = l.cfg.Log.With().Str("bind", rb.name(address)).Logger()
	rb.ctx, rb.cancel = context.WithCancel(context.Background())
	control, err := rb.listen(ctx, bind)
	if err != nil {
		rb.cancel()
		return nil, err
	}
	rb.keeping.Go(func() { rb.keep(control) })
	return rb, nil
}

// name returns one of its addresses, for people.
func (rb *reverseBind) name(address string) string {
	if rb.kind == mux.StreamUDP {
		return address + "/udp"
	}
	return address
}

// reverseControl is the stream whose end ends the listener at the remote.
type reverseControl struct {
	*mux.Stream
	in *bufio.Reader
	id reverseID
}

// listen waits for a session and requests the listener in it.
func (rb *reverseBind) listen(ctx context.Context, bind string) (*reverseControl, error) {
	for {
		conn, err := rb.local.wait(ctx)
		if err != nil {
			return nil, err
		}
		var c *reverseControl
		opening, done := rb.local.whileOpening(ctx)
		if err = conn.session.AwaitCarrier(opening); err == nil {
			c, err = rb.listenIn(opening, conn.session, bind)
		}
		moved := err != nil && opening.Err() != nil && ctx.Err() == nil
		done()
		if err == nil && rb.local.isRetired(conn.session) { // meanwhile
			c.Close()
			rb.local.setReverse(c.id, nil)
			moved = true
		}
		if moved || conn.session.Stats().Away && errors.Is(err, errListenTimeout) {
			continue
		}
		if isDraining(err) {
			if err = rb.local.awaitOther(ctx, conn.session, time.Now().Add(openWait)); err != nil {
				rb.local.cfg.Bounds.Note(err)
				return nil, err
			}
			continue
		}
		var lost *mux.SessionError
		if !errors.As(err, &lost) {
			return c, err
		}
	}
}

// errListenTimeout is the error when a remote doesn't answer in time.
var errListenTimeout = fmt.Errorf("the remote has not answered within %v", listenTimeout)

// errBadBound is the error when a remote reports what it has bound, and that is no address.
var errBadBound = errors.New("the remote reports a malformed address")

// listenIn requests the listener in a session. It tells the remote to begin once this side knows to
// which listener the new streams belong.
func (rb *reverseBind) listenIn(
	ctx context.Context, session *mux.Session, bind string,
) (*reverseControl, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listenTimeout, errListenTimeout)
	defer cancel()
	session.TakeIncoming()
	rb.local.reversing.note()
	stream, err := session.Open(ctx, mux.Target{Kind: mux.StreamListen, Address: bind})
	if err != nil {
		return nil, err
	}
	c := &reverseControl{
		stream,
		bufio.NewReaderSize(stream, maxBoundAddress),
		reverseID{session, stream.ID()},
	}
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	line, err := c.in.ReadSlice('\n')
	if !stop() { // which has closed the stream
		err = context.Cause(ctx)
	}
	bound := strings.TrimSuffix(string(line), "\n")
	if err == nil && printable.Line(bound) != bound { // it goes to people and to scripts
		err = errBadBound
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	rb.mu.Lock()
	rb.bound, rb.control = bound, c
	rb.mu.Unlock()
	rb.local.setReverse(c.id, rb)
	if _, err := stream.Write([]byte("\n")); err != nil {
		rb.local.setReverse(c.id, nil)
		stream.Close()
		return nil, err
	}
	rb.log.Info().Str("listen", rb.name(bound)).Msg("listening at the remote")
	return c, nil
}

// keep binds the address again whenever its control stream has ended, until the bind is closed or
// the local has ended.
func (rb *reverseBind) keep(c *reverseControl) {
	var pause backoff
	for c != nil {
		began := time.Now()
		stop := context.AfterFunc(rb.ctx, func() { c.Close() })
		io.Copy(io.Discard, c.in) // its error is how the stream ended
		stop()
		c.Close()
		rb.local.setReverse(c.id, nil)
		if rb.ctx.Err() != nil {
			return
		}
		pause.lost(time.Since(began), false, true)
		if rb.local.isRetired(c.id.session) { // it is this side that has ended it
			pause.reset()
		}
		c = rb.relisten(&pause)
	}
}

// relisten tries until the address is bound again. It returns nil when the bind is closed or the
// local has ended.
func (rb *reverseBind) relisten(pause *backoff) *reverseControl {
	for {
		if !sleep(rb.ctx, pause.next()) {
			return nil
		}
		c, err := rb.listen(rb.ctx, rb.same())
		if isAddressInUse(err) && rb.same() != rb.bind {
			c, err = rb.listen(rb.ctx, rb.bind)
		}
		switch {
		case err == nil:
			return c
		case rb.ctx.Err() != nil || rb.local.hasEnded():
			return nil
		}
		rb.log.Warn().
			Err(err).
			Dur("retry_within", pause.upcoming()).
			Msg("can't listen at the remote")
	}
}

// moveReverse ends the binds of a session, which are then requested in the current one.
func (l *Local) moveReverse(session *mux.Session) {
	l.mu.Lock()
	var binds []*reverseBind
	for id, rb := range l.reverse {
		if id.session == session {
			binds = append(binds, rb)
		}
	}
	l.mu.Unlock()
	for _, rb := range binds {
		rb.mu.Lock()
		control := rb.control
		rb.mu.Unlock()
		if control.id.session == session {
			control.Close()
		}
	}
}

// same returns the address to request again: when any port was requested, with the port that was
// bound.
func (rb *reverseBind) same() string {
	rb.mu.Lock()
	defer rb.mu.Unlock()
	if host, anyPort := strings.CutSuffix(rb.bind, ":0"); anyPort &&
		!strings.HasPrefix(rb.bind, policy.UnixPrefix) {
		if _, port, err := net.SplitHostPort(rb.bound); err == nil {
			return host + ":" + port
		}
	}
	return rb.bind
}

// isAddressInUse reports whether the remote has refused because the address is in use.
func isAddressInUse(err error) bool {
	var refused *mux.OpenError
	return errors.As(err, &refused) && refused.Code == mux.CodeAddressInUse
}

// next waits for the next stream, which the caller confirms or refuses.
func (rb *reverseBind) next() (mux.Incoming, error) {
	select {
	case in := <-rb.incoming:
		return in, nil
	case <-rb.ctx.Done():
		return nil, net.ErrClosed
	}
}

// offer hands a new stream to next, or refuses it.
func (rb *reverseBind) offer(in mux.Incoming) {
	rb.mu.Lock()
	defer rb.mu.Unlock()
	if rb.closed {
		in.Refuse(mux.CodeRefused, "")
		return
	}
	select {
	case rb.incoming <- in:
	default:
		rb.local.cfg.Bounds.Refused(bounds.WaitingReverse)
		in.Refuse(mux.CodeTooManyStreams, "")
	}
}

// Close ends the listener at the remote and refuses what was not accepted. Accepted connections
// continue.
func (rb *reverseBind) Close() error {
	rb.cancel()
	rb.mu.Lock()
	rb.closed = true
	rb.mu.Unlock()
	rb.keeping.Wait()
	for {
		select {
		case in := <-rb.incoming:
			in.Refuse(mux.CodeRefused, "")
		default:
			return nil
		}
	}
}

// Addr returns the address that the remote has bound, host:port or unix:/path.
func (rb *reverseBind) Addr() net.Addr {
	rb.mu.Lock()
	defer rb.mu.Unlock()
	return mux.Addr{Name: rb.bound}
}

// reverseRequest is whether a bind was ever requested.
type reverseRequest struct {
	made chan struct{} // closed once one was
	once sync.Once
}

func (r *reverseRequest) note() { r.once.Do(func() { close(r.made) }) }

// setReverse records to which bind a control stream belongs; nil forgets the stream.
func (l *Local) setReverse(id reverseID, rb *reverseBind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rb == nil {
		delete(l.reverse, id)
		return
	}
	l.reverse[id] = rb
}

// hasEnded reports whether there will be no more sessions.
func (l *Local) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// acceptReverse accepts the streams that the remote opens, from the first request for a bind until
// the session ends. Until then the session itself refuses them. It refuses those that belong to no
// bind.
func (l *Local) acceptReverse(session *mux.Session) {
	select {
	case <-l.reversing.made:
	case <-session.Done():
		return
	}
	for {
		in, err := session.Accept(context.Background())
		if err != nil {
			return
		}
		target := in.Target()
		id, _, _ := strings.Cut(target.Address, " ")
		n, err := strconv.ParseUint(id, 10, 32)
		l.mu.Lock()
		rb := l.reverse[reverseID{session, uint32(n)}]
		l.mu.Unlock()
		if err != nil || rb == nil || target.Kind != rb.kind {
			in.Refuse(mux.CodeNotAllowed, "")
			continue
		}
		rb.offer(in)
	}
}
