package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/state"
)

// serveState answers with the state of the node.
func (s *Server) serveState(w http.ResponseWriter, r *http.Request) {
	state, err := json.Marshal(s.cfg.Source.State(r.Context()))
	if err != nil {
		s.cfg.Log.Error().Err(err).Msg("the state can't be served")
		writeLine(w, http.StatusInternalServerError, "the state can't be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(state, '\n')) // an error is the client's
}

// serveEvents streams events as they happen, in the form of the HTML standard ("server-sent
// events"). Each has its number as id; a client that lost the connection gets those that are kept
// after its Last-Event-ID first, and a new one those that come.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		s.cfg.Bounds.Refused(bounds.StatusEventStreams)
		writeLine(w, http.StatusServiceUnavailable, "too many event streams")
		return
	}
	events := s.cfg.Events.Subscribe(r.Context())
	out := &eventStream{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	out.write("retry: 2000\n\n")
	if last, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		for _, event := range s.cfg.Events.Recent() {
			if event.Seq > last {
				out.send(event)
			}
		}
	}
	keepalive := time.NewTicker(keepaliveInterval)
	defer keepalive.Stop()
	for out.err == nil {
		select {
		case event, ok := <-events:
			if !ok {
				return
			}
			out.send(event)
		case <-keepalive.C:
			out.write(":\n\n")
		case <-s.stop.Done():
			return
		}
	}
}

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	last    uint64 // number of the event that was last sent
	err     error  // of a write
}

func (e *eventStream) send(event state.Event) {
	if event.Seq <= e.last {
		return
	}
	e.last = event.Seq
	text, err := json.Marshal(event)
	if err != nil {
		panic("status: an event has no JSON: " + err.Error())
	}
	e.write(fmt.Sprintf("id: %d\ndata: %s\n\n", event.Seq, text))
}

// write writes a text, which must be read within writeTimeout.
func (e *eventStream) write(text string) {
	e.control.SetReadDeadline(time.Time{}) // the request is read; the connection waits for its end
	e.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := e.w.Write([]byte(text)); err != nil {
		e.err = err
	} else if err := e.control.Flush(); err != nil {
		e.err = err
	}
}
