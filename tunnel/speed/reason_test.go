package speed

import (
	"testing"
	"time"

	"culvert/internal/tcpinfo"
)

const testMinTrip = 40 * time.Millisecond

// steady returns looks at a download over 3 s with 1,000 segments a second, at 1.4 MB/s, whose
// processes have little to do: by itself, the link is its limit.
func steady() []look {
	looks := make([]look, 7)
	for i := range looks {
		at := time.Duration(i) * 500 * time.Millisecond
		tcp := &tcpinfo.Info{
			RoundTrip: 3 * testMinTrip / 2, MinRoundTrip: testMinTrip, Segments: uint32(500 * i),
			Busy: at, PeerWindow: 1 << 20, SendBuffer: 1 << 20, MaxSendBuffer: 4 << 20,
		}
		in := &tcpinfo.Info{ReceiveBuffer: 2 << 20, MaxReceiveBuffer: 32 << 20}
		looks[i] = look{
			local: Snapshot{At: at, Used: at / 50, Idle: time.Hour + at, Cores: 2, TCP: in,
				Received: int64(700_000 * i)},
			remote: Snapshot{At: time.Hour + at, Used: at / 50, Idle: time.Hour + at, Cores: 2, TCP: tcp},
		}
	}
	return looks
}

func TestReason(t *testing.T) {
	t.Parallel()
	each := func(change func(i int, l *look)) func([]look) {
		return func(looks []look) {
			for i := range looks {
				change(i, &looks[i])
			}
		}
	}
	window := func(size uint32, waited float64) func([]look) {
		return each(func(_ int, l *look) {
			l.remote.TCP.PeerWindow = size
			l.remote.TCP.WindowLimited = time.Duration(waited * float64(l.local.At))
		})
	}
	losses := func(trip time.Duration, lost ...uint32) func([]look) {
		return each(func(i int, l *look) {
			l.remote.TCP.Resent, l.remote.TCP.RoundTrip = lost[i], trip
		})
	}
	// queue lets it be long at every other look; lost counts segments, 500 being sent between looks.
	queue := func(lost ...uint32) func([]look) {
		return func(looks []look) {
			losses(testMinTrip, lost...)(looks)
			for i := 0; i < len(looks); i += 2 {
				looks[i].remote.TCP.RoundTrip = 5 * testMinTrip / 2
			}
		}
	}
	for name, test := range map[string]struct {
		change func([]look)
		want   Reason
	}{
		"the link": {func([]look) {}, Reason{Limit: LimitLink}},
		"the window, by size": {
			window(60_000, 0), Reason{Limit: LimitWindow, End: Local},
		},
		"the window, by time": {
			window(100_000, 0.2), Reason{Limit: LimitWindow, End: Local},
		},
		"a window that is as large as it may be": {
			func(looks []look) {
				window(100_000, 0.5)(looks)
				looks[6].local.TCP.ReceiveBuffer, looks[6].local.TCP.MaxReceiveBuffer = 131072, 131072
			},
			Reason{Limit: LimitWindow, End: Local, Setting: "net.ipv4.tcp_rmem", Value: 131072},
		},
		"the link, with a window that was full at times": {
			window(1<<20, 0.1), Reason{Limit: LimitLink},
		},
		"the send buffer": {
			each(func(_ int, l *look) {
				l.remote.TCP.BufferLimited = l.local.At / 2
				l.remote.TCP.SendBuffer, l.remote.TCP.MaxSendBuffer = 131072, 131072
			}),
			Reason{Limit: LimitBuffer, End: Remote, Setting: "net.ipv4.tcp_wmem", Value: 131072},
		},
		"processors of the receiver": {
			each(func(_ int, l *look) { l.local.Used = l.local.At }),
			Reason{Limit: LimitCPU, End: Local},
		},
		"processors that others use": {
			each(func(_ int, l *look) {
				l.remote.TCP.Busy /= 2
				l.remote.Used, l.remote.Idle, l.local.Idle = l.local.At/4, time.Hour, time.Hour
			}),
			Reason{Limit: LimitCPU, End: Remote},
		},
		"the link, though others use the processors": {
			each(func(_ int, l *look) {
				l.remote.Used, l.remote.Idle, l.local.Idle = l.local.At/4, time.Hour, time.Hour
			}),
			Reason{Limit: LimitLink},
		},
		"loss": {
			losses(testMinTrip+time.Millisecond, 0, 5, 11, 14, 20, 25, 30), Reason{Limit: LimitLoss},
		},
		"little loss": {
			losses(testMinTrip+time.Millisecond, 0, 1, 1, 1, 2, 2, 3), Reason{Limit: LimitLink},
		},
		"a queue that overflows once": {
			losses(testMinTrip+time.Millisecond, 0, 0, 90, 90, 90, 90, 90), Reason{Limit: LimitLink},
		},
		"a queue that has overflowed a little": {
			losses(testMinTrip+time.Millisecond, 0, 16, 16, 16, 16, 16, 16), Reason{Limit: LimitLink},
		},
		"a queue that overflows again and again": {
			losses(2*testMinTrip, 0, 20, 40, 60, 80, 100, 120), Reason{Limit: LimitLink},
		},
		"loss, with acknowledgements that are delayed": {
			func(looks []look) {
				losses(2*testMinTrip, 0, 20, 40, 60, 80, 100, 120)(looks)
				for i := range looks {
					looks[i].local.Received /= 10
				}
			},
			Reason{Limit: LimitLoss},
		},
		"loss that goes on, and a queue that overflows at times": {
			queue(0, 90, 95, 180, 185, 270, 274), Reason{Limit: LimitLoss},
		},
		"loss that pauses, and a queue that overflows at times": {
			queue(0, 90, 90, 180, 180, 270, 270), Reason{Limit: LimitLink},
		},
		"segments that were sent again in vain": {
			each(func(i int, l *look) {
				l.remote.TCP.Resent, l.remote.TCP.Unnecessary = uint32(10*i), uint32(10*i)
				l.remote.TCP.RoundTrip = testMinTrip
			}),
			Reason{Limit: LimitLink},
		},
		"the share": {
			each(func(_ int, l *look) { l.remote.Down = 1_500_000 }),
			Reason{Limit: LimitShare, End: Remote, Value: 1_500_000},
		},
		"a share of the other direction": {
			each(func(_ int, l *look) { l.remote.Up = 1_500_000 }), Reason{Limit: LimitLink},
		},
		"a system that doesn't tell": {
			each(func(_ int, l *look) { l.remote.TCP = nil }),
			Reason{Limit: LimitUnknown, End: Remote},
		},
		"a proxy": {
			each(func(_ int, l *look) {
				l.remote.TCP.MinRoundTrip, l.remote.TCP.RoundTrip = time.Millisecond, time.Millisecond
			}),
			Reason{Limit: LimitLink, Proxied: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			looks := steady()
			test.change(looks)
			got, err := summarize(PhaseDownload, looks, nil, testMinTrip)
			if err != nil || got.Reason != test.want {
				t.Errorf("got %+v, %v; want %+v", got.Reason, err, test.want)
			}
		})
	}
}

// TestReasonUpload turns a download around.
func TestReasonUpload(t *testing.T) {
	t.Parallel()
	looks := steady()
	for i := range looks {
		l := &looks[i]
		l.local, l.remote = l.remote, l.local
		l.local.TCP.PeerWindow = 60_000
	}
	got, err := summarize(PhaseUpload, looks, nil, testMinTrip)
	want := Reason{Limit: LimitWindow, End: Remote}
	if err != nil || got.Reason != want || got.Bytes != 4_200_000 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSummaryOfNothing(t *testing.T) {
	t.Parallel()
	looks := steady()
	for i := range looks {
		looks[i].local.Received = 0
	}
	for _, looks := range [][]look{nil, looks[:1], looks} {
		if got, err := summarize(PhaseDownload, looks, nil, testMinTrip); err != ErrShort {
			t.Errorf("%d looks: %+v, %v", len(looks), got, err)
		}
	}
}

func TestTrips(t *testing.T) {
	t.Parallel()
	got := newTrips([]time.Duration{10, 14, 12, 40, 12})
	if want := (Trips{Median: 12, Jitter: (4 + 2 + 28 + 28) / 4, Count: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := newTrips(nil); got != (Trips{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
