package load

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/congestion"
)

// Kinds of connections to the target.
const (
	download = 'D'
	paced    = 'P'
	rivalry  = 'C'
	upload   = 'U'
	echo     = 'E'
	tally    = 'T'
)

// rateSize is the size in bytes of a rate in bytes per second, big-endian.
const rateSize = 8

// idSize is the size in bytes of the id of a measurement, big-endian, which follows upload and
// tally: what the measurement before has left in a tunnel must not count.
const idSize = 8

// tallySize is the size in bytes of a tally: nanoseconds since 1970 and a count, both big-endian.
const tallySize = 16

// target serves what the loads connect to.
type target struct {
	noise   []byte // what downloads are made of
	serving sync.WaitGroup

	mu       sync.Mutex // guards uploaded
	uploaded map[uint64]*atomic.Int64
}

// counter returns the number of bytes that the uploads of a measurement have brought.
func (t *target) counter(id uint64) *atomic.Int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.uploaded[id] == nil {
		t.uploaded[id] = new(atomic.Int64)
	}
	return t.uploaded[id]
}

// readID reads the id of a measurement.
func readID(conn net.Conn) (uint64, error) {
	var id [idSize]byte
	_, err := io.ReadFull(conn, id[:])
	return binary.BigEndian.Uint64(id[:]), err
}

// Serve listens on the first port of host and the count-1 after it, and serves until ctx is done.
// It calls ready once it serves.
func Serve(ctx context.Context, host string, first, count int, ready func()) error {
	t := &target{noise: make([]byte, bulkBuffer), uploaded: make(map[uint64]*atomic.Int64)}
	for i := range t.noise {
		t.noise[i] = byte(i * 7)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer t.serving.Wait()
	defer cancel()
	for port := first; port < first+count; port++ {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		t.serving.Go(func() { t.accept(ctx, ln) })
	}
	ready()
	<-ctx.Done()
	return nil
}

func (t *target) accept(ctx context.Context, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return // closed, or out of descriptors, which the load will show
		}
		t.serving.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			t.serve(ctx, conn)
		})
	}
}

// serve returns when the client closes the connection.
func (t *target) serve(ctx context.Context, conn net.Conn) {
	var kind [1]byte
	if _, err := io.ReadFull(conn, kind[:]); err != nil {
		return
	}
	switch kind[0] {
	case download:
		t.send(conn)
	case paced:
		t.sendPaced(ctx, conn)
	case rivalry:
		t.sendUnder(conn)
	case upload:
		t.receive(conn)
	case echo:
		buffer := make([]byte, echoBuffer)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
		}
	case tally:
		t.tell(ctx, conn)
	}
}

// receive counts what an upload brings.
func (t *target) receive(conn net.Conn) {
	id, err := readID(conn)
	if err != nil {
		return
	}
	counter, buffer := t.counter(id), make([]byte, bulkBuffer)
	for {
		n, err := conn.Read(buffer)
		counter.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// send sends as much as the connection takes.
func (t *target) send(conn net.Conn) {
	for {
		if _, err := conn.Write(t.noise); err != nil {
			return
		}
	}
}

// sendPaced sends as many bytes a second as the client asks for, in pieces. It begins at random
// within their interval, so that not all clients have theirs at the same time. What it could not
// send in time it does not make up for.
func (t *target) sendPaced(ctx context.Context, conn net.Conn) {
	var message [rateSize]byte
	if _, err := io.ReadFull(conn, message[:]); err != nil {
		return
	}
	if wait(ctx, rand.N(pacePause)) != nil {
		return
	}
	piece := int(binary.BigEndian.Uint64(message[:]) * uint64(pacePause) / uint64(time.Second))
	tick := time.NewTicker(pacePause)
	defer tick.Stop()
	for {
		for left := piece; left > 0; left -= len(t.noise) {
			if _, err := conn.Write(t.noise[:min(left, len(t.noise))]); err != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sendUnder is send under the congestion control that the client names.
func (t *target) sendUnder(conn net.Conn) {
	var size [1]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	name := make([]byte, size[0])
	if _, err := io.ReadFull(conn, name); err != nil {
		return
	}
	if err := congestion.Apply(conn, string(name)); err != nil {
		return // which ends the connection, and with it the load
	}
	t.send(conn)
}

// tell sends the tallies of a measurement.
func (t *target) tell(ctx context.Context, conn net.Conn) {
	id, err := readID(conn)
	if err != nil {
		return
	}
	counter := t.counter(id)
	tick := time.NewTicker(tallyPause)
	defer tick.Stop()
	var message [tallySize]byte
	for {
		binary.BigEndian.PutUint64(message[:8], uint64(time.Now().UnixNano()))
		binary.BigEndian.PutUint64(message[8:], uint64(counter.Load()))
		if _, err := conn.Write(message[:]); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
