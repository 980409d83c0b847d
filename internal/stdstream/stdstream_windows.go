package stdstream

import "sync"

// wake notes that calls are to return.
type wake struct {
	once  sync.Once
	done  chan struct{}
	reads detachedReader // which notice
}

func (w *wake) open() { w.done = make(chan struct{}) }

func (w *wake) interrupt() { w.once.Do(func() { close(w.done) }) }

func (w *wake) release() {}

// interrupted returns an error once calls are to return.
func (w *wake) interrupted() error {
	select {
	case <-w.done:
		return ErrInterrupted
	default:
		return nil
	}
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	return s.wake.reads.read(s.file, p, s.wake.done)
}

// closeFile closes the file. Package os would wait for a read of a console that is blocked.
func (s *Stream) closeFile() error { return s.wake.reads.close(s.file) }

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	if err := s.wake.interrupted(); err != nil {
		return 0, err
	}
	return s.file.Write(p)
}

// AwaitHangup returns when Interrupt is called: a process isn't told of the other end here.
func (s *Stream) AwaitHangup() error {
	<-s.wake.done
	return ErrInterrupted
}
