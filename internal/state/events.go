package state

import (
	"context"
	"sync"
	"time"
)

// Kinds of an Event.
const (
	EventSessionUp     = "session_up"
	EventSessionEnded  = "session_ended"
	EventCarrierLost   = "carrier_lost"
	EventResumed       = "session_resumed"
	EventSwitched      = "remote_changed" // of a local: new streams go to another remote
	EventConnectFailed = "connect_failed" // of a local, which tries again
	EventRefused       = "client_refused"
	EventReloaded      = "reloaded"
	EventReloadFailed  = "reload_failed"
	EventDraining      = "draining"
	EventMoving        = "session_moving" // its client is to use another one for new streams
	EventStreamsCut    = "streams_cut"    // of a session that has moved, or as a node stops
)

// Event is something that has happened to a node or one of its sessions.
type Event struct {
	Seq     uint64    `json:"seq"` // from 1; what an observer misses are numbers that it lacks
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Reason  string    `json:"reason,omitempty"`
	Session string    `json:"session,omitempty"`
	Key     string    `json:"key,omitempty"`
	Comment string    `json:"comment,omitempty"`
	From    string    `json:"from,omitempty"`
}

// Events keeps the last events of a node. All methods may be called concurrently, and on a nil
// *Events, which keeps none. None of them waits for an observer.
type Events struct {
	mu        sync.Mutex // guards all below
	ring      [maxEvents]Event
	last      uint64 // number of the newest event
	observers map[chan Event]struct{}
}

// NewEvents returns an empty Events.
func NewEvents() *Events {
	return &Events{observers: make(map[chan Event]struct{})}
}

// Add numbers an event, keeps it, and passes it on to the observers that have room for it. A zero
// time is replaced by the present.
func (e *Events) Add(event Event) {
	if e == nil {
		return
	}
	if event.Time.IsZero() {
		event.Time = time.Now()
	}
	event.Reason = shorten(event.Reason)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	event.Seq = e.last
	e.ring[e.last%maxEvents] = event
	for observer := range e.observers {
		select {
		case observer <- event:
		default: // it is slow, and sees by the number that it has missed this one
		}
	}
}

// shorten cuts a reason, which a peer may have sent, to maxReason bytes.
func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return reason[:maxReason-len("…")] + "…"
}

// Recent returns the events that are kept, the oldest first.
func (e *Events) Recent() []Event {
	if e == nil {
		return []Event{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	events := make([]Event, 0, min(e.last, maxEvents))
	for seq := e.last - min(e.last, maxEvents) + 1; seq <= e.last; seq++ {
		events = append(events, e.ring[seq%maxEvents])
	}
	return events
}

// Subscribe returns a channel of later events. It is closed once ctx is done. An observer that
// doesn't keep up misses some.
func (e *Events) Subscribe(ctx context.Context) <-chan Event {
	observer := make(chan Event, maxPending)
	if e == nil {
		context.AfterFunc(ctx, func() { close(observer) })
		return observer
	}
	e.mu.Lock()
	e.observers[observer] = struct{}{}
	e.mu.Unlock()
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.observers, observer)
		close(observer)
	})
	return observer
}
