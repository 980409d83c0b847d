package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"sync"
	"sync/atomic"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
)

// Peer is an admitted client, or a remote, that sends what it likes. It reads all that comes, until
// it is told not to. Methods may be called concurrently.
type Peer struct {
	acks    bool
	conn    *protocol.Conn
	deaf    chan struct{} // closed when it reads no more
	ended   chan struct{} // closed when the connection has ended, or it reads no more
	writing sync.Mutex

	frames [256]atomic.Int64 // that have come, by kind
	code   atomic.Uint32     // of the close frame
	pong   atomic.Uint64     // token of the last one
	data   atomic.Int64      // bytes of all streams
}

// Config is what differs between peers.
type Config struct {
	FirstCredit uint32 // bytes, for each stream that the other side opens or answers
	Acks        bool   // it acknowledges what it reads
}

// Dial connects to the remote at a ws:// URL, which must admit the key, and exchanges hellos.
func Dial(
	ctx context.Context, url string, key *certs.KeyPair, verify func(protocol.Peer) error, cfg Config,
) (*Peer, error) {
	ws, _, err := protocol.NewDialer(nil, nil).DialContext(ctx, url, http.Header{})
	if err != nil {
		return nil, err
	}
	conn, err := protocol.Client(ctx, ws, protocol.ClientConfig{
		Version: protocol.Version1, Key: key, VerifyServer: verify, MaxMessage: mux.MaxRecordSize,
	})
	if err != nil {
		return nil, err
	}
	p := newPeer(conn, cfg)
	p.Send(Hello(false, cfg.FirstCredit))
	if _, err := conn.ReadRecord(nil); err != nil { // the remote's hello
		conn.Close()
		return nil, err
	}
	go p.read()
	return p, nil
}

// Handler returns a remote that admits everybody, for which attack is called with each session. The
// session ends when attack returns.
func Handler(key *certs.KeyPair, cfg Config, attack func(*Peer)) http.Handler {
	server := protocol.ServerConfig{Key: key, MaxMessage: mux.MaxRecordSize,
		Admit: func(protocol.Peer) error { return nil }, Replay: protocol.NewReplayCache(0)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := protocol.Upgrade(w, r)
		if err != nil {
			return
		}
		conn, err := protocol.Server(r.Context(), ws, server)
		if err != nil {
			return
		}
		if _, err := conn.ReadRecord(nil); err != nil { // the local's hello
			conn.Close()
			return
		}
		p := newPeer(conn, cfg)
		p.Send(Hello(true, cfg.FirstCredit))
		go p.read()
		defer p.Close()
		attack(p)
	})
}

func newPeer(conn *protocol.Conn, cfg Config) *Peer {
	return &Peer{acks: cfg.Acks, conn: conn, deaf: make(chan struct{}), ended: make(chan struct{})}
}

// Close ends the connection without a word, and waits until nothing more is read.
func (p *Peer) Close() {
	p.conn.Close()
	<-p.ended
}

// StopReading makes the peer read no more, once it has read one record more.
func (p *Peer) StopReading() { close(p.deaf) }

// Ended is closed when the connection has ended, or the peer reads no more.
func (p *Peer) Ended() <-chan struct{} { return p.ended }

// Frames returns how many frames of a kind have come.
func (p *Peer) Frames(kind byte) int64 { return p.frames[kind].Load() }

// Data returns how many bytes all streams have brought.
func (p *Peer) Data() int64 { return p.data.Load() }

// Code returns the code with which the other side has closed the session, 0 before.
func (p *Peer) Code() mux.Code { return mux.Code(p.code.Load()) }

// Pong returns the token of the last pong, 0 before the first.
func (p *Peer) Pong() uint64 { return p.pong.Load() }

// Send sends a record of frames. It reports whether the connection still takes it.
func (p *Peer) Send(frames ...[]byte) bool {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.conn.WriteRecords(bytes.Join(frames, nil)) == nil
}

// Flood sends records of the nth, n+1st … of count pieces, until the connection ends. It reports
// whether the connection has taken all of them.
func (p *Peer) Flood(count uint32, piece func(n uint32) []byte) bool {
	var record []byte
	for n := range count {
		record = append(record, piece(n)...)
		if len(record) > 16<<10 || n == count-1 {
			if !p.Send(record) {
				return false
			}
			record = record[:0]
		}
	}
	return true
}

func (p *Peer) read() {
	defer close(p.ended)
	position := uint64(0)
	var buf []byte
	for {
		select {
		case <-p.deaf:
			return
		default:
		}
		record, err := p.conn.ReadRecord(buf)
		if err != nil {
			return
		}
		buf = record[:0]
		position += p.count(record)
		if p.acks && !p.Send(Number(KindAck, 0, position)) {
			return
		}
	}
}

// count counts the frames of a record, and returns how many of its bytes are to be acknowledged.
func (p *Peer) count(record []byte) (sequenced uint64) {
	for len(record) >= headerSize {
		kind, size := record[0], headerSize+int(binary.BigEndian.Uint32(record)&0xffffff)
		p.frames[kind].Add(1)
		if kind&sequencedBit != 0 {
			sequenced += uint64(size)
		}
		switch payload := record[headerSize:size]; kind {
		case KindClose:
			p.code.Store(uint32(binary.BigEndian.Uint16(payload)))
		case KindPong:
			p.pong.Store(binary.BigEndian.Uint64(payload))
		case KindData:
			p.data.Add(int64(len(payload)))
		}
		record = record[size:]
	}
	return sequenced
}
