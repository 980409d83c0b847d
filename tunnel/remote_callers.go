package tunnel

import "culvert/internal/bounds"

// clientCallers are who uses the ports of -R of a client: strangers, who take streams of its share.
type clientCallers struct {
	called  int            // streams for them, of all ports
	callers map[source]int // connections; not those of unknown sources
}

// takeCaller counts a connection to a port of -R, or a flow, with its source and the port's client,
// until leaveCaller, unless there are too many already. All together leave as many streams to the
// client as they have, and a source leaves as many of these, and of what the port takes, to others.
// So no stranger takes a port for itself, nor do strangers take what the client needs. A source
// that is not valid is bounded only together with all others.
func (r *Remote) takeCaller(b *remoteBind, from source) (client *remoteClient, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.sessions[b.session]
	if a == nil { // about to end
		return nil, false
	}
	c := a.client
	own := max(c.streams-c.called, 0)
	left := (r.mostStreams(c)-own+1)/2 - c.called
	held := c.callers[from]
	if c.called >= leastCallers && left <= 0 || from.IsValid() && held >= leastCallers &&
		held >= min(maxListenerConns-b.called, left) {
		r.cfg.Bounds.Refused(bounds.SourceCallers)
		return nil, false
	}
	b.called++
	c.called++
	if from.IsValid() {
		if c.callers == nil {
			c.callers = make(map[source]int)
		}
		c.callers[from]++
	}
	return c, true
}

// leaveCaller ends what takeCaller began. The session may count with another client by then.
func (r *Remote) leaveCaller(b *remoteBind, client *remoteClient, from source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.called--
	client.called--
	if !from.IsValid() {
		return
	}
	if client.callers[from]--; client.callers[from] == 0 {
		delete(client.callers, from)
	}
}
