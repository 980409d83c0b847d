package mux

import (
	"context"
	"io"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/bounds"
)

// TestTotals checks what both ends count of streams that end in each way, of payload on carriers
// that are lost, and of what is sent again.
func TestTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := new(bounds.Counts)
		r := newRig(t, HostConfig{}, Config{MaxStreams: 2, Bounds: counts})
		ends := map[*Session]map[StreamEnd]int{}
		var carried Traffic // by what ended at the client
		for _, s := range []*Session{r.client, r.server} {
			ends[s] = map[StreamEnd]int{}
			s.OnStreamEnd(func(info StreamInfo, end StreamEnd) {
				end.Lasted = 0
				ends[s][end]++
				if s == r.client {
					carried.add(info.Payload)
				}
			})
		}
		opened, accepted := openPair(t, r.client, r.server)
		opened.Write(make([]byte, 1000))
		accepted.Write(make([]byte, 3000))
		io.ReadFull(accepted, make([]byte, 1000))
		io.ReadFull(opened, make([]byte, 3000))
		for _, s := range []*Session{r.client, r.server} {
			if open := s.Totals().Open; open[CategoryTCP] != 1 {
				t.Errorf("open: %v", open)
			}
		}
		for _, code := range []Code{CodeRefused, CodeNotAllowed, CodeNameNotFound, CodeTimeout} {
			go func() {
				in, _ := r.server.Accept(context.Background())
				in.Refuse(code, "")
			}()
			r.client.Open(t.Context(), Target{StreamUnix, "/socket"})
		}
		other, end := openPair(t, r.client, r.server)
		if _, err := r.client.Open(t.Context(), Target{StreamTCP, "a:1"}); !isRefused(err,
			CodeTooManyStreams) {
			t.Errorf("a third stream: %v", err)
		}
		other.Reset(CodeAborted)
		io.ReadAll(end)
		end.Close()

		r.far.freeze() // what the server sends from now on is lost
		accepted.Write(make([]byte, 5000))
		synctest.Wait()
		r.cut()
		r.resume()
		io.ReadFull(opened, make([]byte, 5000))
		opened.CloseWrite()
		accepted.CloseWrite()
		io.ReadAll(opened)
		io.ReadAll(accepted)
		opened.Close()
		accepted.Close()
		synctest.Wait()

		for name, s := range map[string]*Session{"client": r.client, "server": r.server} {
			got := s.Totals()
			if got.Open != ([numCategories]int{}) {
				t.Errorf("%s: still open: %v", name, got.Open)
			}
			want := [numResults]uint64{ResultOK: 1, ResultReset: 1}
			if s == r.client {
				want[ResultRefused] = 1 // the bound is the peer's, of which this side knows
			}
			if tcp := got.Ended[CategoryTCP]; tcp != want {
				t.Errorf("%s: tcp: %v, want %v", name, tcp, want)
			}
			want = [numResults]uint64{
				ResultRefused: 1, ResultDenied: 1, ResultUnreachable: 1, ResultTimeout: 1,
			}
			if unix := got.Ended[CategoryUnix]; unix != want {
				t.Errorf("%s: unix: %v, want %v", name, unix, want)
			}
			if lost := got.Lost[LossClosed] + got.Lost[LossError]; lost != 1 {
				t.Errorf("%s: %d carriers lost: %v", name, lost, got.Lost)
			}
		}
		for name, s := range map[string]*Session{"client": r.client, "server": r.server} {
			want := map[StreamEnd]int{
				{Result: ResultOK}:                                  1,
				{Result: ResultReset, Code: CodeAborted}:            1,
				{Result: ResultRefused, Code: CodeRefused}:          1,
				{Result: ResultDenied, Code: CodeNotAllowed}:        1,
				{Result: ResultUnreachable, Code: CodeNameNotFound}: 1,
				{Result: ResultTimeout, Code: CodeTimeout}:          1,
				{Result: ResultRefused, Code: CodeTooManyStreams}:   1,
			}
			if s == r.server { // the client knows of the bound
				delete(want, StreamEnd{Result: ResultRefused, Code: CodeTooManyStreams})
			}
			if !maps.Equal(ends[s], want) {
				t.Errorf("%s: %v, want %v", name, ends[s], want)
			}
		}
		client, server := r.client.Totals(), r.server.Totals()
		if carried != client.Payload {
			t.Errorf("streams that ended carried %v of %v", carried, client.Payload)
		}
		if client.Payload != (Traffic{1000, 8000}) || server.Payload != (Traffic{8000, 1000}) {
			t.Errorf("payload: %v at the client, %v at the server", client.Payload, server.Payload)
		}
		if sent := server.Resent.Sent; sent < 5000 || client.Resent.Received != sent {
			t.Errorf("sent again: %d, received again: %d", sent, client.Resent.Received)
		}
		if n := counts.Of(bounds.Streams); n != 1 {
			t.Errorf("%d streams refused by the bound", n)
		}
		r.client.Close()
		r.server.Close()
		var all Totals
		for _, of := range []Totals{client, server} {
			all.Add(&of)
		}
		if all.Ended[CategoryTCP][ResultOK] != 2 || all.Payload.Sent != 9000 {
			t.Errorf("together: %+v", all)
		}
	})
}

// TestTotalsDatagrams checks that each datagram that is not carried is counted with its reason.
func TestTotalsDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := new(bounds.Counts)
		r := newRig(t, HostConfig{}, Config{Bounds: counts})
		flow, err := r.client.OpenFlowAtOnce("a:1")
		if err != nil {
			t.Fatal(err)
		}
		acceptFlow(t, r.server)
		for _, send := range []struct {
			size   int
			away   bool
			queued bool
		}{{size: MaxDatagram + 1}, {size: 100, queued: true}, {size: 100, away: true}} {
			if send.away {
				synctest.Wait()
				r.cut()
			}
			if queued, _ := flow.Send(make([]byte, send.size)); queued != send.queued {
				t.Errorf("%+v: %t", send, queued)
			}
		}
		got := r.client.Totals()
		want := [numDrops]uint64{DropSize: 1, DropAway: 1}
		if got.Dropped != want || got.Payload.Sent != 100 {
			t.Errorf("dropped %v, want %v; payload %v", got.Dropped, want, got.Payload)
		}
		if n := counts.Of(bounds.Datagram); n != 1 {
			t.Errorf("%d datagrams beyond the bound", n)
		}
	})
}

// A carrier that is replaced while it works is not lost, though the client may learn that the
// server has closed it before it has the server's hello on the next. Where that never comes, it is.
func TestTotalsReplacedCarrier(t *testing.T) {
	for _, answered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, HostConfig{}, Config{})
			near, far := newSecurePipe()
			thaw := far.freeze()
			accepted := r.accept(far, owner)
			resumed := make(chan error, 1)
			go func() {
				_, err := r.client.Resume(context.Background(), near)
				resumed <- err
			}()
			synctest.Wait()
			time.Sleep(100 * time.Millisecond) // synctest: for the client's hello
			if !r.client.Stats().Away || len(resumed) > 0 {
				t.Fatal("the old carrier still works")
			}
			want := uint64(0)
			if answered {
				thaw()
			} else {
				far.Close()
				want = 1
			}
			if err := <-resumed; (err == nil) != answered {
				t.Errorf("answered %t: %v", answered, err)
			}
			<-accepted
			if !answered {
				r.resume()
			}
			lost := r.client.Totals().Lost
			if n := lost[LossClosed] + lost[LossError] + lost[LossSilent]; n != want {
				t.Errorf("answered %t: %d carriers lost, want %d: %v", answered, n, want, lost)
			}
		})
	}
}
