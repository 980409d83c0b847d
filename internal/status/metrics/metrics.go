// Package metrics shows what a node does to Prometheus. What happens at a time is counted as an
// [tunnel.Observer]; what the node itself counts is read on each scrape.
package metrics

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"culvert/internal/bounds"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// sampleInterval is how often the round trip of each session of a remote is sampled: the
	// interval at which Prometheus scrapes by default.
	sampleInterval = 15 * time.Second

	// maxScrapes bounds the scrapes that are served at once, and scrapeTimeout each of them.
	maxScrapes    = 4
	scrapeTimeout = 10 * time.Second
)

// Node is a tunnel.Local or a tunnel.Remote.
type Node interface{ Read() tunnel.Reading }

// Metrics are those of one node. It is the node's Observer, and its Bounds count for the node. All
// methods may be called concurrently.
type Metrics struct {
	Bounds *bounds.Counts

	registry   *prometheus.Registry
	handshakes *prometheus.CounterVec
	handshake  *prometheus.HistogramVec
	resume     *prometheus.HistogramVec
	dial       *prometheus.HistogramVec
	moves      *prometheus.CounterVec
	roundTrip  prometheus.Histogram // of a remote
	reloaded   prometheus.Gauge
	reloadedAt prometheus.Gauge
}

var _ tunnel.Observer = (*Metrics)(nil)

// buckets are upper bounds in seconds, from a round trip in a machine room to the timeouts.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// awayBuckets end with the default of --resume-window.
var awayBuckets = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}

// New returns the metrics of a node that runs a version of culvert.
func New(version string) *Metrics {
	m := &Metrics{Bounds: new(bounds.Counts), registry: prometheus.NewRegistry()}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"result"})
	}
	m.handshakes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culvert_handshakes_total",
		Help: "Attempts of clients to be admitted, by result, version and suite of the handshake.",
	}, []string{"result", "version", "suite"})
	m.moves = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culvert_session_moves_total",
		Help: "Sessions whose clients were told to open another, by reason.",
	}, []string{"reason"})
	m.handshake = histogram("culvert_handshake_seconds",
		"Time that handshakes took, by result.", buckets)
	m.resume = histogram("culvert_resume_seconds",
		"Time that sessions were without a connection, until resumed or lost.", awayBuckets)
	m.dial = histogram("culvert_dial_seconds",
		"Time until targets were reached, or were not, by result.", buckets)
	m.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "culvert_config_last_reload_successful",
		Help: "Whether the last reload of the configuration succeeded.",
	})
	m.reloadedAt = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "culvert_config_last_reload_success_timestamp_seconds",
		Help: "Time of the last successful reload, or of the start.",
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "culvert_build_info",
		Help:        "Version of culvert and of Go; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.handshakes, m.handshake, m.resume, m.dial,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Reloaded(true)
	return m
}

// Reloaded notes whether a reload has succeeded.
func (m *Metrics) Reloaded(ok bool) {
	if !ok {
		m.reloaded.Set(0)
		return
	}
	m.reloaded.Set(1)
	m.reloadedAt.SetToCurrentTime()
}

// Handshake implements tunnel.Observer.
func (m *Metrics) Handshake(h tunnel.Handshake) {
	version, suite := "none", "none"
	if h.Version != 0 {
		version = strconv.Itoa(h.Version)
	}
	if h.Suite != "" {
		suite = h.Suite
	}
	m.handshakes.WithLabelValues(h.Result.String(), version, suite).Inc()
	if h.Took > 0 {
		m.handshake.WithLabelValues(h.Result.String()).Observe(h.Took.Seconds())
	}
}

// Resume implements tunnel.Observer.
func (m *Metrics) Resume(resumed bool, away time.Duration) {
	result := "lost"
	if resumed {
		result = "resumed"
	}
	m.resume.WithLabelValues(result).Observe(away.Seconds())
}

// Move implements tunnel.Observer.
func (m *Metrics) Move(reason tunnel.MoveReason) {
	m.moves.WithLabelValues(reason.String()).Inc()
}

// Dial implements tunnel.Observer.
func (m *Metrics) Dial(result mux.Result, took time.Duration) {
	m.dial.WithLabelValues(result.String()).Observe(took.Seconds())
}

// Sources are what the metrics of a node read in addition to the node itself. A nil one counts
// nothing.
type Sources struct {
	// DroppedLines returns how many lines of the log were dropped.
	DroppedLines func() uint64
}

// WatchLocal reads node on each scrape from now on.
func (m *Metrics) WatchLocal(node Node, s Sources) {
	m.registry.MustRegister(newCollector(node, m.Bounds, s, localMetrics()))
}

// WatchRemote reads node on each scrape from now on. Sample is to be run too.
func (m *Metrics) WatchRemote(node Node, s Sources) {
	m.roundTrip = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "culvert_session_round_trip_seconds",
		Help:    "Round trips of the sessions that are connected, sampled every 15 s.",
		Buckets: buckets,
	})
	for _, reason := range []tunnel.MoveReason{
		tunnel.MoveAge, tunnel.MoveRequest, tunnel.MoveShutdown,
	} {
		m.moves.WithLabelValues(reason.String()) // which is 0 from the start
	}
	m.registry.MustRegister(m.moves, m.roundTrip, m.reloaded, m.reloadedAt,
		newCollector(node, m.Bounds, s, remoteMetrics()))
}

// Sample samples the round trips of the sessions of a remote until ctx is done.
func (m *Metrics) Sample(ctx context.Context, node Node) {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, trip := range node.Read().RoundTrips {
				m.roundTrip.Observe(trip.Seconds())
			}
		case <-ctx.Done():
			return
		}
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:            m.registry,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	})
}
