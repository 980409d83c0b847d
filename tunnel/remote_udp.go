package tunnel

import (
	"context"
	"net"
	"net/netip"

	"culvert/internal/bounds"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// remoteRules are the rules for a client's targets: *policy.Rules or noRights. Values are compared.
type remoteRules interface {
	Resolve(ctx context.Context, network, host string, port uint16) ([]netip.AddrPort, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	DialUnix(ctx context.Context, address string) (net.Conn, error)
}

// rules returns the rules that hold now for the targets of the session's client.
func (s *remoteSession) rules() remoteRules {
	r := s.remote
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isRevoked(s.Session) {
		return noRights{}
	}
	rules := r.access.rulesFor(s.client)
	if r.dialer != nil {
		rules = r.dialer(rules)
	}
	return rules
}

// serveFlow joins a flow of datagrams to a socket of its own, as far as the rules allow.
func (s *remoteSession) serveFlow(in *mux.IncomingFlow, client clientStream) {
	target := in.Target().Address
	log := s.log.With().Uint32("stream", in.ID()).Str("target", target).Str("kind", "udp").Logger()
	counts := s.remote.cfg.Bounds
	refuse := func(bound bounds.Bound, code mux.Code) {
		counts.Refused(bound)
		in.Refuse(code, "")
	}
	held := client.exits.taken()
	if !client.exits.take() {
		refuse(bounds.ClientUDPExits, mux.CodeTooManyStreams)
		return
	}
	defer client.exits.leave()
	// As many as the client has are left for others.
	if s.remote.exits.left() <= held || !s.remote.exits.take() {
		refuse(bounds.UDPExits, mux.CodeTooManyStreams)
		return
	}
	defer s.remote.exits.leave()
	release := s.ReserveMemory(exitMemory)
	if release == nil {
		refuse(bounds.Memory, mux.CodeOverload)
		return
	}
	defer release()
	conn, err := openExit(policy.WithLookups(s.ctx, client.lookups), s.rules(), target)
	if err != nil {
		in.Refuse(s.unreached(in, err), "")
		return
	}
	datagrams, err := in.Confirm()
	if err != nil {
		conn.Close()
		return
	}
	carried := newFlow(datagrams)
	carried.meter = client.meter
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	defer context.AfterFunc(client.meter.lifetime(s.ctx), stop)()
	if target == "" {
		err = newRemoteExit(carried, conn.(*net.UDPConn), s.rules, client.exitLoad).run(ctx)
	} else {
		err = relayDatagrams(ctx, carried, conn)
	}
	log.Debug().Err(err).Msg("stream ended")
}

// openExit opens the socket for a stream: one that is connected to the stream's target or, when
// that is empty, one that can send anywhere.
func openExit(ctx context.Context, rules remoteRules, target string) (net.Conn, error) {
	if target == "" {
		return net.ListenUDP("udp", nil)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return rules.Dial(ctx, "udp", target)
}
