package metrics

import (
	"culvert/internal/bounds"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads a node on each scrape.
type collector struct {
	node    Node
	bounds  *bounds.Counts
	sources Sources
	metrics []metric
}

// metric is a family of metrics that a reading has.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	write func(r *reading, emit emit)
}

// emit writes the value for some values of labels.
type emit func(value float64, labels ...string)

// reading is what is read at a scrape.
type reading struct {
	tunnel.Reading
	*collector
}

func newCollector(node Node, counts *bounds.Counts, s Sources, own []metric) *collector {
	return &collector{node, counts, s, append(commonMetrics(), own...)}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		descs <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	r := &reading{c.node.Read(), c}
	for _, m := range c.metrics {
		m.write(r, func(value float64, labels ...string) {
			metrics <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
		})
	}
}

func gauge(name, help string, write func(*reading, emit), labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, write}
}

func counter(name, help string, write func(*reading, emit), labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, write}
}

// one writes a metric without labels.
func one(value func(*reading) float64) func(*reading, emit) {
	return func(r *reading, emit emit) { emit(value(r)) }
}

// byDirection writes what was sent and received.
func byDirection(of func(*reading) mux.Traffic) func(*reading, emit) {
	return func(r *reading, emit emit) {
		t := of(r)
		emit(float64(t.Sent), "sent")
		emit(float64(t.Received), "received")
	}
}

// commonMetrics are those of either node.
func commonMetrics() []metric {
	return append(streamMetrics(), []metric{
		counter("culvert_sessions_total", "Sessions that began.",
			one(func(r *reading) float64 { return float64(r.Sessions) })),
		counter("culvert_resumptions_total", "Resumptions of sessions on another connection.",
			one(func(r *reading) float64 { return float64(r.Resumptions) })),
		counter("culvert_carriers_lost_total", "Connections of sessions that were lost.",
			func(r *reading, emit emit) {
				for loss, n := range r.Lost {
					emit(float64(n), mux.Loss(loss).String())
				}
			}, "reason"),
		gauge("culvert_memory_bytes", "Memory that counts for the limit.",
			func(r *reading, emit emit) {
				emit(float64(r.Memory.Send), "send")
				emit(float64(r.Memory.Receive), "receive")
				emit(float64(r.Memory.Retained), "retained")
				emit(float64(r.Memory.Streams), "streams")
				emit(float64(r.Memory.Handshake), "handshake")
				emit(float64(r.Memory.Other), "other")
			}, "use"),
		gauge("culvert_memory_limit_bytes", "The most memory that they may hold together.",
			one(func(r *reading) float64 { return float64(r.Memory.Limit) })),
		counter("culvert_refusals_total",
			"What was refused, dropped or ended because of a bound of docs/limits.md.",
			func(r *reading, emit emit) {
				r.bounds.Each(func(b bounds.Bound, refused uint64) {
					emit(float64(refused), b.String())
				})
			}, "bound"),
		counter("culvert_log_lines_dropped_total", "Lines of the log that were dropped.",
			one(func(r *reading) float64 {
				if r.sources.DroppedLines == nil {
					return 0
				}
				return float64(r.sources.DroppedLines())
			})),
	}...)
}

// streamMetrics are those about what streams carry.
func streamMetrics() []metric {
	return []metric{
		gauge("culvert_streams", "Streams that are open.",
			func(r *reading, emit emit) {
				for c, n := range r.Open {
					emit(float64(n), mux.Category(c).String())
				}
			}, "kind"),
		counter("culvert_streams_total", "Streams that have ended, by how they did.",
			func(r *reading, emit emit) {
				for c, ended := range r.Ended {
					for result, n := range ended {
						emit(float64(n), mux.Category(c).String(), mux.Result(result).String())
					}
				}
			}, "kind", "result"),
		counter("culvert_bytes_total", "Payload of streams.",
			byDirection(func(r *reading) mux.Traffic { return r.Payload }), "direction"),
		counter("culvert_resent_bytes_total", "Bytes that were sent again after resumptions.",
			byDirection(func(r *reading) mux.Traffic { return r.Resent }), "direction"),
		counter("culvert_datagrams_dropped_total", "Datagrams that were dropped in sessions.",
			func(r *reading, emit emit) {
				for drop, n := range r.Dropped {
					emit(float64(n), mux.Drop(drop).String())
				}
			}, "reason"),
	}
}

// localMetrics are those of a local.
func localMetrics() []metric {
	return []metric{
		gauge("culvert_session_up", "Whether the session has a connection.",
			one(func(r *reading) float64 { return float64(min(r.Carried, 1)) })),
		gauge("culvert_round_trip_seconds", "Smoothed round trip of the session; 0 if unknown.",
			one(func(r *reading) float64 {
				if len(r.RoundTrips) == 0 {
					return 0
				}
				return r.RoundTrips[0].Seconds()
			})),
		gauge("culvert_delivery_rate_bytes_per_second",
			"Rate at which the path has recently delivered to the remote; 0 if unknown.",
			one(func(r *reading) float64 { return r.Rate })),
	}
}

// remoteMetrics are those of a remote.
func remoteMetrics() []metric {
	return []metric{
		gauge("culvert_sessions", "Sessions, with a connection or without.",
			func(r *reading, emit emit) {
				emit(float64(r.Carried), "carried")
				emit(float64(r.Away), "away")
			}, "state"),
	}
}
