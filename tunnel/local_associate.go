package tunnel

import (
	"context"
	"net/netip"
	"sync"

	"culvert/internal/bounds"
	"culvert/tunnel/mux"
)

// Association carries datagrams to any targets and back, through one stream and one socket at the
// remote. It ends with its session, when new ones go to another session and this one has lost its
// carrier, and after 5 idle minutes. All methods may be called concurrently.
type Association struct {
	flow    *mux.Flow
	release func() // gives its memory back

	mu  sync.Mutex // guards buf
	buf []byte     // a datagram with its address
}

// Associate opens an association. While there is no session it waits for one, for at most 10 s. The
// error is a *mux.OpenError when the remote has refused, and when there is no memory for the
// buffers.
func (l *Local) Associate(ctx context.Context) (*Association, error) {
	return openInSession(ctx, l, l.associateIn)
}

// associateIn opens an association in a session.
func (l *Local) associateIn(ctx context.Context, session *mux.Session) (*Association, error) {
	release := session.ReserveMemory(associationMemory)
	if release == nil {
		l.cfg.Bounds.Refused(bounds.Memory)
		return nil, &mux.OpenError{Code: mux.CodeOverload, Text: "no memory for its buffers"}
	}
	flow, err := session.OpenFlow(ctx, "")
	if err != nil {
		release()
		return nil, err
	}
	flow.SetLabel(labelProxy)
	return &Association{flow: flow, release: release}, nil
}

// Send sends a datagram to a host, an address or a name that the remote resolves. It never waits:
// it drops a datagram for which there is no room, without an error. It returns an error when the
// datagram can't be sent at all, or the association has ended.
func (a *Association) Send(host string, port uint16, p []byte) error {
	target, err := newEndpoint(host, port)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buf = append(target.append(a.buf[:0]), p...)
	_, err = a.flow.Send(a.buf)
	return err
}

// Receive waits for the next datagram and copies its payload to p, for which mux.MaxDatagram bytes
// are always enough.
func (a *Association) Receive(p []byte) (n int, from netip.AddrPort, err error) {
	for {
		n, err := a.flow.Receive(p)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		source, payload, err := parseEndpoint(p[:n])
		if err != nil || source.name != "" {
			continue // the remote's mistake, which nobody could act on
		}
		return copy(p, payload), netip.AddrPortFrom(source.addr, source.port), nil
	}
}

// Close ends the association. It does not wait.
func (a *Association) Close() error {
	a.release()
	return a.flow.Close()
}
