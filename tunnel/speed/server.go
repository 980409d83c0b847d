package speed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"culvert/internal/tcpinfo"
)

var (
	// ErrBytes is the error of a test that has carried MaxBytes in a direction.
	ErrBytes = errors.New("the test has carried as much as it may")

	// ErrStreams is the error for more streams than a test may have.
	ErrStreams = errors.New("too many streams of one test")

	// ErrUnknown is the error for a service that this package doesn't have.
	ErrUnknown = errors.New("no such service")
)

// Server serves one test. Its methods may be called concurrently.
type Server struct {
	began time.Time
	tcp   func() *tcpinfo.Info    // of the session's connection
	share func() (up, down int64) // of the client

	streams        atomic.Int32 // open now, without the control stream
	sent, received atomic.Int64
}

// NewServer returns the server of a test that begins now.
func NewServer(tcp func() *tcpinfo.Info, share func() (up, down int64)) *Server {
	return &Server{began: time.Now(), tcp: tcp, share: share}
}

// Carried returns how many bytes the test has carried.
func (s *Server) Carried() (sent, received int64) { return s.sent.Load(), s.received.Load() }

// Serve serves a stream to a service until the client ends it, the test has carried too much, or
// ctx is done. The caller closes the stream.
func (s *Server) Serve(ctx context.Context, service string, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	err := s.serve(service, conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *Server) serve(service string, conn net.Conn) error {
	if service == Control {
		return s.control(conn)
	}
	defer s.streams.Add(-1)
	if s.streams.Add(1) > maxStreams {
		return ErrStreams
	}
	switch service {
	case Download:
		return s.send(conn)
	case Upload:
		return s.receive(conn)
	}
	return ErrUnknown
}

// control answers requests.
func (s *Server) control(conn net.Conn) error {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	answers := json.NewEncoder(conn)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		var answer any = struct{}{}
		if asked.Op == opLook {
			look := newSnapshot(s.began, s.tcp(), s.sent.Load(), s.received.Load())
			look.Up, look.Down = s.share()
			answer = look
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (s *Server) send(conn net.Conn) error {
	for s.sent.Load() < MaxBytes {
		n, err := conn.Write(data[:])
		s.sent.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return ErrBytes
}

func (s *Server) receive(conn net.Conn) error {
	buffer := make([]byte, bufferSize)
	for s.received.Load() < MaxBytes {
		n, err := conn.Read(buffer)
		s.received.Add(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ErrBytes
}

// data is what is sent. It is the same over and over, which nothing on the way can tell: records
// are sealed, and never compressed.
var data [bufferSize]byte
