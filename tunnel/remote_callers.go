package tunnel

import "culvert/internal/bounds"

// takeCaller counts a connection to a port of -R with its source, until leaveCaller, unless that
// has more already than it would leave to others: of what the port takes, of the client's share,
// and of the memory for streams. So no stranger takes a port for itself, nor what the client needs
// for its own streams.
func (r *Remote) takeCaller(b *remoteBind, from source) bool {
	if !from.IsValid() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	held := b.callers[from]
	if a := r.sessions[b.session]; a != nil && held >= leastCallers {
		left := min(maxListenerConns-b.called, a.client.share.Streams-a.client.streams,
			r.roomForStreams())
		if held >= left {
			r.cfg.Bounds.Refused(bounds.SourceCallers)
			return false
		}
	}
	b.callers[from]++
	b.called++
	return true
}

// leaveCaller ends what takeCaller began.
func (r *Remote) leaveCaller(b *remoteBind, from source) {
	if !from.IsValid() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b.called--
	if b.callers[from]--; b.callers[from] == 0 {
		delete(b.callers, from)
	}
}
