package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// answers collects the results that an opening reports. It is read while the session is idle.
type answers []error

func (a *answers) add(err error) { *a = append(*a, err) }

// openAtOnce opens a stream to a server that is the test, which has read the open frame when it
// returns.
func openAtOnce(t *testing.T) (client *Session, p *rawPeer, st *Stream, told *answers) {
	t.Helper()
	client, p = newRawServer(t, Config{}, rawHello)
	told = new(answers)
	st, err := client.OpenAtOnce(Target{StreamTCP, "h:1"}, told.add)
	if err != nil {
		t.Fatal(err)
	}
	return client, p, st, told
}

// What is written before the answer follows the open frame at once, and the half-close too.
func TestOpenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, p, st, told := openAtOnce(t)
		io.WriteString(st, "early")
		st.CloseWrite()
		var kinds []kind
		for _, f := range p.quiet() {
			if f.stream == st.ID() {
				kinds = append(kinds, f.kind)
			}
			if f.kind == kindData && string(f.payload) != "early" {
				t.Errorf("data %q", f.payload)
			}
		}
		if !slices.Equal(kinds, []kind{kindOpen, kindData, kindFin}) {
			t.Errorf("frames %v", kinds)
		}
		if len(*told) != 0 {
			t.Errorf("told %v before the answer", *told)
		}
		p.send(wire(kindOpened, st.ID()), wire(kindData, st.ID(), []byte("answer")),
			wire(kindFin, st.ID()))
		if got, err := io.ReadAll(st); string(got) != "answer" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		st.Close()
		if !slices.Equal(*told, answers{nil}) {
			t.Errorf("told %v", *told)
		}
		if stats := client.Stats(); stats.Streams != 0 || stats.Buffered != 0 {
			t.Errorf("left behind: %+v", stats)
		}
	})
}

// checkRefusal checks that an error means that a stream was refused, and also reads as a reset
// connection.
func checkRefusal(t *testing.T, what string, err error, code Code) {
	t.Helper()
	var refusal *OpenError
	var reset *ResetError
	if !errors.As(err, &refusal) || refusal.Code != code || !errors.As(err, &reset) ||
		!reset.Remote || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestRefusedAfterOpenAtOnce refuses a stream with data in both directions, or resets it instead of
// an answer: all that its user does from then on fails with the refusal, and nothing looks like a
// clean end.
func TestRefusedAfterOpenAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer [][]byte
		code   Code
		text   string
	}{
		{"refused", [][]byte{wire(kindRefused, 1, u16(CodeRefused), []byte("why"))}, CodeRefused,
			"connection refused: why"},
		{"data, then refused", [][]byte{wire(kindData, 1, []byte("early")),
			wire(kindRefused, 1, u16(CodeTimeout))},
			CodeTimeout, "timed out"},
		{"reset", [][]byte{wire(kindData, 1, []byte("early")),
			wire(kindReset, 1, u16(CodeOverload))},
			CodeOverload, "buffer limit reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, p, st, told := openAtOnce(t)
				go p.discard()
				writes := make(chan error, 1)
				go func() {
					_, err := io.Copy(onlyWriter{st}, endless{}) // until there is neither credit nor room
					writes <- err
				}()
				synctest.Wait()
				p.send(c.answer...)
				synctest.Wait()
				checkRefusal(t, "a write that waited", <-writes, c.code)
				_, err := st.Read(make([]byte, 1))
				checkRefusal(t, "read", err, c.code)
				_, err = st.WriteTo(io.Discard)
				checkRefusal(t, "write to", err, c.code)
				_, err = st.ReadFrom(strings.NewReader("late"))
				checkRefusal(t, "read from", err, c.code)
				checkRefusal(t, "close write", st.CloseWrite(), c.code)
				if len(*told) != 1 || (*told)[0].Error() != c.text || err.Error() != c.text {
					t.Errorf("told %v, and a reader %q", *told, err)
				}
				var refusal *OpenError
				if len(*told) == 1 && (!errors.As((*told)[0], &refusal) || refusal.Code != c.code) {
					t.Errorf("told %v", (*told)[0])
				}
				ended := false
				st.NotifyEnd(func(bool) { ended = true })
				if !ended {
					t.Error("the stream is not told to have ended")
				}
				st.Close()
				if stats := client.Stats(); stats.Streams != 0 || stats.Buffered != 0 {
					t.Errorf("left behind: %+v", stats)
				}
			})
		})
	}
}

// The refusal wakes a pending read.
func TestRefusalWakesReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p, st, _ := openAtOnce(t)
		reads := make(chan error, 1)
		go func() {
			_, err := st.Read(make([]byte, 1))
			reads <- err
		}()
		p.quiet()
		p.send(wire(kindRefused, st.ID(), u16(CodeHostUnreach)))
		checkRefusal(t, "read", <-reads, CodeHostUnreach)
		st.Close()
	})
}

// A stream that ends before its answer reports that to its caller and resets the peer's end.
func TestOpenAtOnceWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, p, st, told := openAtOnce(t)
		io.WriteString(st, "early")
		p.quiet()
		st.Close()
		if resets := ofKind(p.quiet(), kindReset); len(resets) != 1 ||
			!bytes.Equal(resets[0].payload, u16(CodeCancelled)) {
			t.Errorf("after Close: %v", resets)
		}
		p.send(wire(kindRefused, st.ID(), u16(CodeRefused))) // too late
		p.quiet()
		if len(*told) != 1 || !errors.Is((*told)[0], syscall.ECONNRESET) {
			t.Errorf("told %v after Close", *told)
		}

		*told = nil
		if _, err := client.OpenAtOnce(Target{StreamTCP, "h:1"}, told.add); err != nil {
			t.Fatal(err)
		}
		p.carrier.Close()
		client.Wait()
		var lost *SessionError
		if len(*told) != 1 || !errors.As((*told)[0], &lost) {
			t.Errorf("told %v after the session's end", *told)
		}
		if _, err := client.OpenAtOnce(Target{StreamTCP, "h:1"}, told.add); !errors.As(err, &lost) ||
			len(*told) != 1 {
			t.Errorf("in a session that has ended: %v, told %v", err, *told)
		}
	})
}

// A peer that ends its half in place of an answer leaves nobody waiting for that, also where this
// side's half has ended.
func TestFinInPlaceOfAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, p, st, told := openAtOnce(t)
		st.CloseWrite()
		p.quiet()
		p.send(wire(kindFin, st.ID()))
		if f := p.until(kindClose); !bytes.HasPrefix(f.payload, u16(CodeProtocol)) {
			t.Errorf("closed with % x", f.payload)
		}
		var broken *ProtocolError
		if err := client.Wait(); !errors.As(err, &broken) || len(*told) != 1 {
			t.Errorf("%v, told %v", err, *told)
		}
	})
}

// What needs no answer is refused at once, as by Open.
func TestOpenAtOnceKeepsToLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := rawHello
		mine.maxStreams = 1
		client, p := newRawServer(t, Config{}, mine)
		told := new(answers)
		check := func(address string, want Code) {
			t.Helper()
			var refusal *OpenError
			_, err := client.OpenAtOnce(Target{StreamTCP, address}, told.add)
			if !errors.As(err, &refusal) || refusal.Code != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
		check(strings.Repeat("h", maxTarget+1), CodeBadTarget)
		st, err := client.OpenAtOnce(Target{StreamTCP, "h:1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		check("h:2", CodeTooManyStreams)
		p.send(wire(kindRefused, st.ID(), u16(CodeRefused)))
		p.quiet()
		st.Close()
		p.send(wire(kindDraining, 0))
		p.quiet()
		check("h:2", CodeDraining)
		if len(*told) != 0 {
			t.Errorf("told %v of streams that never were", *told)
		}
	})
}

// A stream that is opened at once while the session has no carrier is opened on the next one, with
// its data.
func TestOpenAtOnceWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, HostConfig{}, Config{})
		r.cut()
		told := make(chan error, 1)
		opened, err := r.client.OpenAtOnce(Target{StreamTCP, "h:1"}, func(err error) { told <- err })
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(opened, "early")
		r.resume()
		accepted, err := acceptStream(context.Background(), r.server)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-told; err != nil {
			t.Errorf("told %v", err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(accepted, got); err != nil || string(got) != "early" {
			t.Errorf("read %q, %v", got, err)
		}
		opened.Close()
		accepted.Close()
	})
}

// endless is a reader that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// onlyWriter hides a stream's other methods from io.Copy.
type onlyWriter struct{ io.Writer }

// discard takes all that the session sends, until the carrier has ended.
func (p *rawPeer) discard() {
	for {
		if _, err := p.carrier.ReadRecord(nil); err != nil {
			return
		}
	}
}

// Nothing of a stream or a flow leaves before its open frame, however little room a record has left
// for that: the frame waits for the next record.
func TestOpenGoesFirst(t *testing.T) {
	longest := strings.Repeat("a", maxTarget)
	const most = headerSize + 3 + maxTarget // bytes of its open frame
	for name, send := range map[string]func(s *Session){
		"stream": func(s *Session) {
			if st, err := s.OpenAtOnce(Target{StreamTCP, longest}, nil); err == nil {
				st.Write(make([]byte, 1000))
			}
		},
		"flow": func(s *Session) {
			if flow, err := s.OpenFlowAtOnce(longest); err == nil {
				flow.Send([]byte("x"))
			}
		},
	} {
		for left := most - 10; left <= most+1; left++ {
			synctest.Test(t, func(t *testing.T) {
				s, p := newRawServer(t, Config{}, rawHello)
				s.mu.Lock()
				s.link.heldSince = time.Now() // while the frames are queued
				fill := s.link.roomLocked() - left
				s.mu.Unlock()
				streams := 1
				for ; fill > 0; streams++ {
					size := min(most-100, fill)
					if rest := fill - size; rest > 0 && rest < 100 {
						size -= 100
					}
					s.OpenAtOnce(Target{StreamTCP, longest[:size-headerSize-3]}, nil)
					fill -= size
				}
				send(s)
				s.release()
				opened := map[uint32]bool{}
				for _, f := range p.quiet() {
					if f.kind == kindOpen {
						opened[f.stream] = true
					} else if f.stream > 0 && !opened[f.stream] {
						t.Errorf("%s, %d bytes left: frame 0x%02x before the open frame", name, left,
							uint8(f.kind))
					}
				}
				if len(opened) != streams {
					t.Errorf("%s, %d bytes left: %d of %d opened", name, left, len(opened), streams)
				}
			})
		}
	}
}
