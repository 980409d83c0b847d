//go:build unix

package stdstream

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// wake is a pipe that is at its end once calls are to return.
type wake struct {
	once sync.Once
	r, w *os.File // nil when there were no descriptors left: then calls can't be interrupted
}

func (w *wake) open() { w.r, w.w, _ = os.Pipe() }

func (w *wake) interrupt() {
	w.once.Do(func() {
		if w.w != nil {
			_ = w.w.Close() // an error changes nothing: nothing was written
		}
	})
}

func (w *wake) release() {
	if w.r != nil {
		_ = w.r.Close()
	}
}

// await waits for events on fd, and returns those that came. poll(2) reports a hangup and an error
// without being asked, except on macOS: see hangupEvents. A descriptor that it can't wait for
// counts as ready.
func (w *wake) await(fd int, events int16) (got int16, err error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: -1, Events: unix.POLLIN}}
	if w.r != nil {
		raw, err := w.r.SyscallConn()
		if err != nil {
			return 0, err
		}
		// Release is not called before the last await has returned, so the number stays valid.
		if err := raw.Control(func(fd uintptr) { fds[1].Fd = int32(fd) }); err != nil {
			return 0, err
		}
	}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case fds[1].Revents != 0:
			return 0, ErrInterrupted
		case fds[0].Revents != 0:
			return fds[0].Revents, nil
		}
	}
}

func (s *Stream) closeFile() error { return s.file.Close() }

// control calls f with the file's descriptor, which stays open meanwhile.
func (s *Stream) control(f func(fd int)) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// transfer calls do, which reads or writes, whenever the file is ready, until it has done so.
func (s *Stream) transfer(events int16, do func(fd int) (int, error)) (n int, err error) {
	controlErr := s.control(func(fd int) {
		for {
			if _, err = s.wake.await(fd, events); err != nil {
				return
			}
			n, err = do(fd)
			// A file in the non-blocking mode may be ready no longer.
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	if err == nil {
		err = controlErr
	}
	return max(n, 0), err
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.transfer(unix.POLLIN, func(fd int) (int, error) { return unix.Read(fd, p) })
	switch {
	case errors.Is(err, ErrInterrupted):
		return n, err
	case err != nil:
		return n, &os.PathError{Op: "read", Path: s.file.Name(), Err: err}
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		part := p[total:min(len(p), total+maxWrite)]
		n, err := s.transfer(unix.POLLOUT, func(fd int) (int, error) { return unix.Write(fd, part) })
		total += n
		switch {
		case errors.Is(err, ErrInterrupted):
			return total, err
		case err != nil:
			return total, &os.PathError{Op: "write", Path: s.file.Name(), Err: err}
		}
	}
	return total, nil
}

// AwaitHangup returns nil once nobody reads the pipe, or is at the other end of the socket or
// terminal. It never does for other files.
func (s *Stream) AwaitHangup() (err error) {
	controlErr := s.control(func(fd int) {
		var got int16
		if got, err = s.wake.await(fd, hangupEvents(s.file)); err == nil && got&unix.POLLNVAL != 0 {
			_, err = s.wake.await(-1, 0) // not a file that can be waited for
		}
	})
	if err == nil {
		err = controlErr
	}
	return err
}
