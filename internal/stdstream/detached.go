package stdstream

import (
	"io"
	"sync"
	"sync/atomic"
)

// detachedReader reads where nothing ends a call that is blocked, as on a Windows console. Each is
// made on a goroutine, into a buffer of the reader's own, so that it can be left behind.
type detachedReader struct {
	blocked atomic.Int32 // calls that have not returned yet

	mu  sync.Mutex // held by read
	buf []byte     // used by the call that was left behind once there is one
}

// maxRead bounds one detached read in bytes.
const maxRead = 32 << 10

// read reads from r. Once done is closed, this call and all later ones return ErrInterrupted.
func (d *detachedReader) read(r io.Reader, p []byte, done <-chan struct{}) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-done:
		return 0, ErrInterrupted
	default:
	}
	if d.buf == nil {
		d.buf = make([]byte, maxRead)
	}
	type result struct {
		n   int
		err error
	}
	buf, results := d.buf[:min(len(p), len(d.buf))], make(chan result, 1)
	d.blocked.Add(1)
	go func() {
		n, err := r.Read(buf)
		d.blocked.Add(-1)
		results <- result{n, err}
	}()
	select {
	case got := <-results:
		return copy(p, buf[:got.n]), got.err
	case <-done:
		return 0, ErrInterrupted
	}
}

// close closes c, without waiting for that while a call that was left behind may hold it up.
func (d *detachedReader) close(c io.Closer) error {
	if d.blocked.Load() > 0 {
		go c.Close()
		return nil
	}
	return c.Close()
}
