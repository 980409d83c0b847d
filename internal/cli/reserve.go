package cli

import (
	"os"
	"sync"
	"time"

	"culvert/internal/netfault"
)

const (
	// reservedFiles is how many descriptors are kept for a reload, which opens its files one after
	// another. Connections that wait to be accepted may take some of them meanwhile.
	reservedFiles = 16

	// reserveTries and reservePause are how often, and how far apart, a reload that still finds no
	// descriptor is tried.
	reserveTries = 20
	reservePause = 25 * time.Millisecond
)

// reserve keeps descriptors, so that files can be read when there are no others left: clients must
// not be able to prevent a reload that revokes them.
type reserve struct {
	mu    sync.Mutex // guards files
	files []*os.File
}

func newReserve() *reserve {
	r := &reserve{}
	r.fill()
	return r
}

// fill opens what is missing, as far as the limit of the process allows.
func (r *reserve) fill() {
	for len(r.files) < reservedFiles {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return
		}
		r.files = append(r.files, f)
	}
}

// release closes all.
func (r *reserve) release() {
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}

// spend calls read with the descriptors free, and takes them back.
func (r *reserve) spend(read func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.fill()
	for try := 1; ; try++ {
		r.release()
		err := read()
		if try == reserveTries || !netfault.Exhausted(err) {
			return err
		}
		r.fill() // as accepted connections close, descriptors come back
		time.Sleep(reservePause)
	}
}

// close gives the descriptors back.
func (r *reserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release()
}
