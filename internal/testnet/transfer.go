package testnet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Transfer is a content that is sent one way, up to a [TransferServer] or down from it. Both ends
// generate the content from its seed and size, so that neither holds it in memory.
type Transfer struct {
	Up   bool
	Seed uint64
	Size int64 // bytes
}

// transferHead is the length in bytes of the header of a connection to a [TransferServer]: the
// direction, seed and size of the transfer.
const transferHead = 17

func (x Transfer) head() (head [transferHead]byte) {
	head[0] = 'd'
	if x.Up {
		head[0] = 'u'
	}
	binary.BigEndian.PutUint64(head[1:], x.Seed)
	binary.BigEndian.PutUint64(head[9:], uint64(x.Size))
	return head
}

// String names the transfer in a failed test.
func (x Transfer) String() string {
	head := x.head()
	return fmt.Sprintf("%c%d", head[0], x.Seed)
}

// content returns a stream of bytes that differs for each transfer.
func (x Transfer) content() io.Reader {
	var key [32]byte
	head := x.head()
	copy(key[:], head[:])
	return io.LimitReader(rand.NewChaCha8(key), x.Size)
}

// Run runs the transfer over a new connection, which must support half-close, and returns an error
// unless the content arrives unchanged.
func (x Transfer) Run(dial func() (net.Conn, error), timeout time.Duration) error {
	conn, err := dial()
	if err != nil {
		return fmt.Errorf("%v: %w", x, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	want, _, err := sum(x.content())
	if err != nil {
		return err
	}
	head := x.head()
	if _, err = conn.Write(head[:]); err != nil {
		return fmt.Errorf("%v: %w", x, err)
	}
	n, got := x.Size, [sha256.Size]byte{}
	if !x.Up {
		got, n, err = sum(conn)
	} else if _, err = io.Copy(conn, x.content()); err == nil {
		err = conn.(interface{ CloseWrite() error }).CloseWrite()
		_, readErr := io.ReadFull(conn, got[:])
		err = errors.Join(err, readErr)
	}
	if err != nil {
		return fmt.Errorf("%v, after %d bytes of %d: %w", x, n, x.Size, err)
	}
	if n != x.Size || got != want {
		return fmt.Errorf("%v: %d bytes of %d, hash equal: %v", x, n, x.Size, got == want)
	}
	return nil
}

// TransferServer sends and receives the contents of a [Transfer], and answers an upload with its
// hash.
type TransferServer struct {
	Address string

	mu     sync.Mutex
	served map[[transferHead]byte]int // connections, by what they asked for
}

// StartTransferServer serves on ln, which it takes ownership of, until the test ends.
func StartTransferServer(tb testing.TB, ln net.Listener) *TransferServer {
	tb.Helper()
	s := &TransferServer{
		Address: ln.Addr().String(), served: make(map[[transferHead]byte]int),
	}
	Serve(tb, ln, s.serve)
	return s
}

func (s *TransferServer) serve(conn net.Conn) {
	var head [transferHead]byte
	io.ReadFull(conn, head[:]) // a connection without a header is counted too, as one of zeros
	s.mu.Lock()
	s.served[head]++
	s.mu.Unlock()
	x := Transfer{
		Up: head[0] == 'u', Seed: binary.BigEndian.Uint64(head[1:]),
		Size: int64(binary.BigEndian.Uint64(head[9:])),
	}
	switch head[0] {
	case 'd':
		io.Copy(conn, x.content())
	case 'u':
		if hash, _, err := sum(conn); err == nil {
			conn.Write(hash[:])
		}
	}
}

// Served returns the number of distinct transfers that have begun.
func (s *TransferServer) Served() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.served)
}

// CheckServedOnce fails the test unless n distinct transfers began, each of them once.
func (s *TransferServer) CheckServedOnce(tb testing.TB, n int) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.served) != n {
		tb.Errorf("%d different streams reached the server, want %d", len(s.served), n)
	}
	for head, times := range s.served {
		if times != 1 {
			seed := binary.BigEndian.Uint64(head[1:])
			tb.Errorf("stream %c%d reached the server %d times", head[0], seed, times)
		}
	}
}

func sum(r io.Reader) (hash [sha256.Size]byte, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, r)
	return [sha256.Size]byte(h.Sum(nil)), n, err
}
