package pollbreak

import (
	"encoding/binary"
	"os"
	"syscall"

	"culvert/internal/rawsock"

	"golang.org/x/sys/unix"
)

// event is an event that Go's network poller has to find: a write to an eventfd (eventfd(2))
// that the poller already watches. Nobody reads it: the poller is notified of each write (EPOLLET,
// epoll(7)), and the counter has room for 2^64 of them.
type event struct {
	file   *os.File // nil before the first wait
	raw    syscall.RawConn
	ready  func(fd uintptr) bool // called when the eventfd is ready, and once before
	raised bool
	one    [1][]byte // what is written: the number 1
	broken bool      // the system gives no eventfd, or no longer takes it
}

func (e *event) wait() {
	if e.broken || (e.file == nil && !e.open()) {
		return
	}
	e.raised = false
	if err := e.raw.Read(e.ready); err != nil {
		e.broken = true
	}
}

func (e *event) open() bool {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		e.broken = true
		return false
	}
	e.file = os.NewFile(uintptr(fd), "eventfd")
	e.ready = e.raise
	e.one[0] = binary.NativeEndian.AppendUint64(nil, 1)
	e.raw, err = e.file.SyscallConn()
	e.broken = err != nil
	return !e.broken
}

// raise raises the event when it is called for the first time, and reports that it has occurred the
// second time.
func (e *event) raise(fd uintptr) bool {
	if e.raised {
		return true
	}
	e.raised = true
	_, err := rawsock.Writev(fd, e.one[:])
	return err != nil // otherwise the poller calls again
}

func (e *event) close() {
	if e.file != nil {
		e.file.Close()
	}
}
