package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// streamReaders are the ways to take what a stream brings. Each returns it with the error at its
// end.
var streamReaders = map[string]func(st *Stream) ([]byte, error){
	"Read": func(st *Stream) ([]byte, error) { return io.ReadAll(st) },
	"WriteTo": func(st *Stream) ([]byte, error) {
		var b bytes.Buffer
		_, err := st.WriteTo(&b)
		return b.Bytes(), err
	},
	"Deliver": func(st *Stream) ([]byte, error) {
		var b bytes.Buffer
		ended := make(chan error, 1)
		st.Deliver(&b, func(err error) { ended <- err })
		err := <-ended
		return b.Bytes(), err
	},
}

// A reset follows all that was written before, in either direction, also when it takes credit that
// the receiver has yet to give.
func TestResetFollowsData(t *testing.T) {
	for name, read := range streamReaders {
		for _, size := range []int{0, 1, 60, 40 << 10, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Window: 32 << 10, SendBuffer: 2 << 20}
				client, server := newPair(t, cfg, cfg)
				sender, receiver := openPair(t, client, server)
				if size%2 == 1 {
					sender, receiver = receiver, sender
				}
				sent := randomBytes(t, size)
				if _, err := sender.Write(sent); err != nil {
					t.Fatal(err)
				}
				sender.CloseWithReset(CodeAborted)
				// The stream has ended at once if all of it could be sent.
				var reset *ResetError
				_, err := sender.Write([]byte("x"))
				if !errors.Is(err, net.ErrClosed) && !errors.As(err, &reset) {
					t.Errorf("%s, %d bytes: a write after the end: %v", name, size, err)
				}
				got, err := read(receiver)
				if !bytes.Equal(got, sent) || !errors.As(err, &reset) || reset.Code != CodeAborted {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), size, err)
				}
				receiver.Close()
				synctest.Wait()
				for _, s := range []*Session{client, server} {
					if stats := s.Stats(); stats.Streams != 0 || stats.Buffered != 0 {
						t.Errorf("%s, %d bytes: left behind: %+v", name, size, stats)
					}
				}
			})
		}
	}
}

// A reset after an end of file comes after both, and ends the other direction too.
func TestResetAfterFin(t *testing.T) {
	for _, size := range []int{0, 100 << 10} {
		synctest.Test(t, func(t *testing.T) {
			client, server := newPair(t, Config{}, Config{Window: 16 << 10})
			sender, receiver := openPair(t, client, server)
			ended := false
			receiver.NotifyEnd(func(bool) { ended = true })
			sender.Write(make([]byte, size))
			sender.CloseWrite()
			if size == 0 {
				synctest.Wait() // the fin has left by itself
			}
			sender.CloseWithReset(CodeAborted)
			if got, err := io.ReadAll(receiver); len(got) != size || err != nil {
				t.Errorf("read %d bytes of %d, %v", len(got), size, err)
			}
			synctest.Wait()
			_, err := receiver.Write([]byte("x"))
			if !ended || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("told: %v; write: %v", ended, err)
			}
			receiver.Close()
		})
	}
}

// A stream has left once it is cut short, also while what came before can still be read, and not
// when its peer only sends no more.
func TestHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		sender, receiver := openPair(t, client, server)
		sender.Write([]byte("x"))
		sender.CloseWrite()
		synctest.Wait()
		if receiver.HasLeft() {
			t.Error("has left after an end of file")
		}
		sender.CloseWithReset(CodeAborted)
		synctest.Wait()
		if !receiver.HasLeft() {
			t.Error("has not left after a reset")
		}
		if got, err := io.ReadAll(receiver); string(got) != "x" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		receiver.Close()
	})
}

// Reset, unlike CloseWithReset, drops what is queued.
func TestResetAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{Window: 16 << 10})
		sender, receiver := openPair(t, client, server)
		sender.Write(make([]byte, 100<<10))
		synctest.Wait()
		sender.Reset(CodeAborted)
		synctest.Wait()
		if client.Stats().Streams != 0 || server.Stats().Streams != 0 {
			t.Error("the stream is still open")
		}
		if got, err := io.ReadAll(receiver); len(got) != 16<<10 ||
			!errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		receiver.Close()
	})
}

// A receiver that takes nothing is waited for lingerTime, and one that takes little as long as it
// does. Then both ends drop what they hold.
func TestResetBehindStalledReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{Window: 16 << 10})
		sender, receiver := openPair(t, client, server)
		sender.Write(make([]byte, 64<<10))
		synctest.Wait()
		sender.CloseWithReset(CodeAborted)
		for range 4 {
			time.Sleep(lingerTime - 3*time.Second) // synctest
			if _, err := io.ReadFull(receiver, make([]byte, 8<<10)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(lingerTime - time.Second) // synctest
		if client.Stats().Streams != 1 {
			t.Fatal("given up too early")
		}
		time.Sleep(3 * time.Second) // synctest
		synctest.Wait()
		if client.Stats().Streams != 0 || server.Stats().Buffered != 0 {
			t.Errorf("left behind: %+v, %+v", client.Stats(), server.Stats())
		}
		if _, err := receiver.Read(make([]byte, 1)); !errors.Is(err, ErrStalled) ||
			!errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		receiver.Close()
	})
}

// A receiver that takes data steadily, but less than a quarter of its window in lingerTime, gets
// all that was sent before the cut.
func TestResetBehindSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{Window: 64 << 10})
		sender, receiver := openPair(t, client, server)
		sent := randomBytes(t, 128<<10)
		sender.Write(sent)
		sender.CloseWithReset(CodeAborted)
		got := make([]byte, len(sent))
		for at := 0; at < len(got); at += 512 {
			time.Sleep(3 * time.Second) // synctest
			if _, err := io.ReadFull(receiver, got[at:at+512]); err != nil {
				t.Fatalf("after %d bytes of %d: %v", at, len(sent), err)
			}
		}
		if !bytes.Equal(got, sent) {
			t.Error("received something else")
		}
		receiver.Close()
	})
}

// expiredWriter is a writer whose own deadline has passed.
type expiredWriter struct{ calls int }

func (w *expiredWriter) Write([]byte) (int, error) {
	w.calls++
	return 0, os.ErrDeadlineExceeded
}

// A write that is out of a time which isn't the session's fails at once, and is not tried again.
func TestResetBehindExpiredWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		sender, receiver := openPair(t, client, server)
		sender.Write([]byte("x"))
		sender.CloseWithReset(CodeAborted)
		synctest.Wait()
		w := &expiredWriter{}
		began := time.Now()
		_, err := receiver.WriteTo(w)
		if err == nil || w.calls != 1 || time.Since(began) != 0 {
			t.Errorf("%d writes in %v, then %v", w.calls, time.Since(began), err)
		}
		receiver.Close()
	})
}

// While the session is without a carrier, nothing is given up: the receiver may well take it.
func TestResetWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		sender, receiver := openPair(t, r.client, r.server)
		r.cut()
		sent := randomBytes(t, 100<<10)
		sender.Write(sent)
		sender.CloseWithReset(CodeAborted)
		time.Sleep(2 * lingerTime) // synctest
		r.resume()
		if got, err := io.ReadAll(receiver); !bytes.Equal(got, sent) ||
			!errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d bytes of %d, %v", len(got), len(sent), err)
		}
		receiver.Close()
	})
}

// An opener that sends and is cut short before the answer is still served what it sent; one that
// gives up is not.
func TestResetBeforeAnswer(t *testing.T) {
	for name, end := range map[string]func(*Stream){
		"reset":           func(st *Stream) { st.CloseWithReset(CodeAborted) },
		"closed to reset": func(st *Stream) { st.SetLinger(0); st.Close() },
		"closed":          func(st *Stream) { st.Close() },
		"closed, lingers": func(st *Stream) { st.SetLinger(0); st.SetLinger(-1); st.Close() },
	} {
		gaveUp := strings.HasPrefix(name, "closed") && !strings.HasSuffix(name, "reset")
		synctest.Test(t, func(t *testing.T) {
			client, server := newPair(t, Config{}, Config{})
			var answer answers
			opened, err := client.OpenAtOnce(Target{StreamTCP, "h:1"}, answer.add)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(opened, "early")
			in, err := server.Accept(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			var told []bool
			in.NotifyEnd(func(unread bool) { told = append(told, unread) })
			end(opened)
			synctest.Wait()
			if !slices.Equal(told, []bool{!gaveUp}) || len(answer) != 1 || answer[0] == nil {
				t.Errorf("%s: told the end with unread data %v, and the answer %v", name, told, answer)
			}
			accepted, err := in.(*IncomingStream).Confirm()
			if gaveUp {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: confirm: %v", name, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(accepted); string(got) != "early" ||
				!errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read %q, %v", got, err)
			}
			accepted.Close()
			if stats := server.Stats(); stats.Streams != 0 || stats.Buffered != 0 {
				t.Errorf("left behind: %+v", stats)
			}
		})
	}
}

// Deliver goes on after a reset and after the end of the session, for lingerTime without progress:
// also when the peer's half had ended.
func TestDeliverAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(sender *Stream, client *Session){
		"reset":   func(sender *Stream, _ *Session) { sender.CloseWithReset(CodeAborted) },
		"session": func(_ *Stream, client *Session) { client.Close() },
		"fin and session": func(sender *Stream, client *Session) {
			sender.CloseWrite()
			client.Close()
		},
		"both fins and session": func(sender *Stream, client *Session) {
			sender.Close()
			synctest.Wait()
			client.Close()
		},
	} {
		for _, reads := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				const size = 64 << 10
				client, server := newPair(t, Config{}, Config{})
				sender, receiver := openPair(t, client, server)
				if name == "both fins and session" {
					receiver.CloseWrite()
				}
				near, far := net.Pipe()
				defer far.Close()
				ended := make(chan error, 1)
				receiver.Deliver(near, func(err error) {
					ended <- err
					near.Close()
				})
				sender.Write(make([]byte, size))
				synctest.Wait() // the write to near is under way
				end(sender, client)
				synctest.Wait()
				began := time.Now()
				total := 0
				for reads && total < size { // a little, before it would be given up
					time.Sleep(lingerTime - time.Second) // synctest
					n, err := io.ReadFull(far, make([]byte, 8<<10))
					if total += n; err != nil {
						t.Fatalf("%s: read %d bytes, %v", name, total, err)
					}
				}
				err := <-ended
				took := time.Since(began)
				switch {
				case reads && errors.Is(err, ErrStalled):
					t.Errorf("%s: %v", name, err)
				case !reads && (!errors.Is(err, ErrStalled) || took != lingerTime):
					t.Errorf("%s: ended after %v with %v", name, took, err)
				}
				receiver.Close()
				if stats := server.Stats(); stats.Buffered != 0 {
					t.Errorf("%s: left behind: %+v", name, stats)
				}
			})
		}
	}
}

// A reset that drops what is queued ends a write at once.
func TestDeliverIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		sender, receiver := openPair(t, client, server)
		near, far := net.Pipe()
		defer far.Close()
		ended := make(chan error, 1)
		receiver.Deliver(near, func(err error) { ended <- err })
		sender.Write(make([]byte, 1000))
		synctest.Wait()
		if !receiver.WriteFailed() {
			t.Error("a write that waits is not reported")
		}
		receiver.Reset(CodeAborted)
		synctest.Wait()
		select {
		case err := <-ended:
			if !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, ErrStalled) {
				t.Errorf("ended with %v", err)
			}
		default:
			t.Error("not ended")
		}
	})
}

// sleeper is a writer like a Linux socket: a write that waits is not woken by a little room. It
// takes what it has room for, and the rest once its deadline has made it try again.
type sleeper struct {
	room     int
	deadline chan time.Time
	writes   int
}

func (s *sleeper) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() {
		s.deadline <- t
	}
	return nil
}

func (s *sleeper) Write(p []byte) (int, error) {
	s.writes++
	n := min(s.room, len(p))
	if s.room -= n; n == len(p) {
		return n, nil
	}
	at := <-s.deadline
	time.Sleep(time.Until(at)) // synctest
	s.room += 20 << 10         // which nobody has told it
	return n, &net.OpError{Op: "write", Err: errTimeout{}}
}

type errTimeout struct{}

func (errTimeout) Error() string        { return "timed out" }
func (errTimeout) Is(target error) bool { return target.Error() == "i/o timeout" }

// While data queues up behind a write that waits, the write is tried again, so that a slow reader's
// progress is seen, and gives credit.
func TestDeliverTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		sender, receiver := openPair(t, client, server)
		out := &sleeper{deadline: make(chan time.Time, 1)}
		ended := make(chan error, 1)
		receiver.Deliver(out, func(err error) { ended <- err })
		const size = 200 << 10
		began := time.Now()
		for range size >> 10 {
			sender.Write(make([]byte, 1<<10))
			synctest.Wait()
		}
		sender.CloseWrite()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		most := (size/(20<<10) + 2) * 2 * writeSlice
		if took := time.Since(began); took > most || out.writes < 3 {
			t.Errorf("delivered after %v, in %d writes", took, out.writes)
		}
		receiver.Close()
		sender.Close()
	})
}

// Drain waits for what streams have brought and nobody has read yet.
func TestDrainWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPair(t, Config{}, Config{})
		sender, receiver := openPair(t, client, server)
		io.WriteString(sender, "rest")
		sender.Close()
		receiver.CloseWrite()
		synctest.Wait()
		if n := server.Stats().Streams; n != 0 {
			t.Fatalf("%d streams", n)
		}
		drained := make(chan error, 1)
		go func() { drained <- server.Drain(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-drained:
			t.Fatalf("drained before the rest was read: %v", err)
		default:
		}
		if got, err := io.ReadAll(receiver); string(got) != "rest" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// canceller is a writer like a socket on Windows: what a write that its deadline ends has taken is
// not known. This one has always taken all. Its reader needs a while for each write.
type canceller struct {
	taken    bytes.Buffer
	deadline chan time.Time
}

func (c *canceller) SetWriteDeadline(t time.Time) error {
	c.deadline <- t
	return nil
}

func (c *canceller) Write(p []byte) (int, error) {
	c.taken.Write(p)
	taken := time.After(lingerTime - time.Second) // synctest
	var expired <-chan time.Time
	for {
		select {
		case <-taken:
			return len(p), nil
		case t := <-c.deadline:
			if expired = nil; !t.IsZero() {
				expired = time.After(time.Until(t))
			}
		case <-expired:
			return 0, &net.OpError{Op: "write", Err: errTimeout{}}
		}
	}
}

// Where a write that was ended can't be resumed, no byte is written twice to a slow reader, neither
// while the session lives nor after its end.
func TestDeliverRepeatsNothing(t *testing.T) {
	defer func(before bool) { resumesWrites = before }(resumesWrites)
	resumesWrites = false
	for _, end := range []func(*Session){func(*Session) {}, func(s *Session) { s.Close() }} {
		synctest.Test(t, func(t *testing.T) {
			client, server := newPair(t, Config{}, Config{})
			sender, receiver := openPair(t, client, server)
			out := &canceller{deadline: make(chan time.Time, 100)}
			ended := make(chan error, 1)
			receiver.Deliver(out, func(err error) { ended <- err })
			sent := randomBytes(t, 200<<10)
			sender.Write(sent)
			sender.CloseWrite()
			time.Sleep(time.Second) // synctest: all has arrived
			end(client)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if !bytes.Equal(out.taken.Bytes(), sent) {
				t.Errorf("the reader got %d bytes, want %d, or others", out.taken.Len(), len(sent))
			}
			receiver.Close()
			sender.Close()
		})
	}
}
