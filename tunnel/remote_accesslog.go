package tunnel

import (
	"net/netip"
	"time"

	"culvert/certs"
	"culvert/internal/printable"
	"culvert/tunnel/mux"
)

// StreamRecord is a stream of a Remote that has ended, or was refused.
type StreamRecord struct {
	Session string // its name in the log
	Stream  uint32 // its number in the session; 0 for one that the Remote didn't open
	Key     certs.PublicKey
	Name    string        // the comment of the key in the authorized keys
	From    netip.Addr    // of the client when the session began; invalid when unknown
	Kind    string        // tcp, udp, unix or reverse
	Target  string        // or where a connection to a reverse listener came from
	Lasted  time.Duration // rounded, for people
	Result  mux.Result
	Code    mux.Code // with which it was refused or reset, or 0

	Sent, Received uint64 // payload to the client and from it, in bytes
}

// recordStreams makes the access log get the streams of a session from now on.
func (r *Remote) recordStreams(
	session *mux.Session, name string, client certs.PublicKey, from netip.Addr,
) {
	record := r.cfg.Access
	if record == nil {
		return
	}
	comment := r.currentAccess().commentOf(client)
	session.OnStreamEnd(func(info mux.StreamInfo, end mux.StreamEnd) {
		kind := info.Target.Kind
		if info.Ours { // what came in through -R, also datagrams
			kind = mux.StreamReverse
		}
		record(StreamRecord{
			Session: name, Stream: info.ID, Key: client, Name: comment, From: from,
			Kind:   kindNames[kind],
			Target: printable.Line(info.Target.Address),
			Lasted: shortTime(end.Lasted), Result: end.Result, Code: end.Code,
			Sent: info.Payload.Sent, Received: info.Payload.Received,
		})
	})
}
