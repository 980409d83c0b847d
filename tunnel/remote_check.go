package tunnel

import (
	"maps"
	"slices"
)

// CheckPath returns nil once it has got at each session, as a client's connection has to. It hangs
// where those would.
func (r *Remote) CheckPath() error {
	r.mu.Lock()
	sessions := slices.Collect(maps.Keys(r.sessions))
	r.mu.Unlock()
	for _, session := range sessions {
		session.Stats()
	}
	return r.ctx.Err()
}
