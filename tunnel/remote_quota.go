package tunnel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"culvert/internal/bounds"
	"culvert/internal/quota"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// clientQuota bounds what the streams of a client carry in a day of UTC. Its methods may be called
// concurrently.
type clientQuota struct {
	ctx    context.Context // ends all streams
	ledger *quota.Ledger
	name   string // of the client in the ledger
	log    zerolog.Logger
	bounds *bounds.Counts
	most   atomic.Int64 // bytes; 0 for no bound

	mu   sync.Mutex // guards both
	live context.Context
	cut  context.CancelCauseFunc // ends live; nil when there was no stream yet
}

// errQuota is why streams are cut short that have carried more than the quota allows.
var errQuota = errors.New("quota used up")

// set replaces the quota; 0 is none.
func (q *clientQuota) set(most int64) { q.most.Store(most) }

// isUsed reports whether nothing is left for another stream.
func (q *clientQuota) isUsed() bool {
	most := q.most.Load()
	return most > 0 && q.used() >= most
}

// used returns the bytes that count today. What a client without a quota carries doesn't.
func (q *clientQuota) used() int64 { return q.ledger.Used(q.name) }

// count counts n bytes. Open streams may carry a tenth more than the quota, so that most of them
// come to their end, and are cut short then.
func (q *clientQuota) count(n int) {
	most := q.most.Load()
	if most == 0 {
		return
	}
	used := q.ledger.Add(q.name, int64(n))
	if used-most < most/quotaExcess {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut != nil && q.live.Err() == nil {
		q.cut(errQuota)
		q.bounds.Refused(bounds.QuotaExcess)
		q.log.Info().Str("client", q.name).Int64("used_bytes", used).
			Uint16("code", uint16(mux.CodeQuota)).Msg("streams cut short: quota used up")
	}
}

// lifetime returns the context of a new stream: it ends with all streams, and when the client has
// used too much.
func (q *clientQuota) lifetime() context.Context {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut == nil || q.live.Err() != nil {
		q.live, q.cut = context.WithCancelCause(q.ctx)
	}
	return q.live
}

// end frees what lifetime has left behind, when the client has no more streams.
func (q *clientQuota) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut != nil {
		q.cut(nil)
	}
}
