package waits

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWaits(t *testing.T) {
	time.Sleep(time.Second)  // want `time.Sleep`
	for range time.Tick(1) { // want `time.Tick`
	}
	<-time.After(time.Second) // want `a bare <-time.After`
	_ = <-(time.After(1))     // want `a bare <-time.After`
	for ; ; <-time.After(1) { // want `a bare <-time.After`
	}
	select {
	case <-t.Context().Done():
	case <-time.After(time.Second):
	}
	select {
	case now := <-time.After(time.Second):
		_ = now
		<-time.After(1) // want `a bare <-time.After`
	}
	deadline := time.After(time.Second)
	<-deadline
	time.Now()
	pause()
}

func TestTimers(t *testing.T) {
	timer, ticker := time.NewTimer(time.Second), time.NewTicker(time.Second)
	<-timer.C       // want `a bare receive from a timer or ticker`
	_ = <-(timer.C) // want `a bare receive from a timer or ticker`
	for range 3 {
		<-ticker.C // want `a bare receive from a timer or ticker`
	}
	<-ticker.C // measures something
	for ; t.Context().Err() == nil; <-ticker.C {
	}
	select {
	case <-t.Context().Done():
	case <-timer.C:
	case now := <-ticker.C:
		_ = now
	}
	<-channels{}.C
	synctest.Test(t, func(t *testing.T) { <-timer.C })
	time.Sleep(1) /* measures nothing */ // want `time.Sleep`
}

type channels struct{ C chan int }

func TestBubble(t *testing.T) {
	time.Sleep(1) // want `time.Sleep`
	wait := func() { time.Sleep(1) }
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1)
		<-time.After(1)
		go func() { time.Sleep(1) }()
		wait()
		inBubbles(3)
		inBoth()
		carrier{}.deliver()
	})
	synctest.Test(t, bubble)
}

func bubble(*testing.T) { time.Sleep(1) }

func inBubbles(n int) {
	if n > 0 {
		inBubbles(n - 1)
	}
	time.Sleep(1)
	deeper[int]()
}

func deeper[T any]() { time.Sleep(1) }

func inBoth() { time.Sleep(1) } // want `time.Sleep`

func TestNoBubble(t *testing.T) { inBoth() }

func unused() { time.Sleep(1) } // want `time.Sleep`

type carrier struct{}

func (carrier) deliver() { time.Sleep(1) }

type delayed struct{}

// Write is called through an interface.
func (delayed) Write() {
	time.Sleep(1) // in a synctest bubble
	time.Sleep(2) // want `time.Sleep`
}
