// Package status serves what a node does over HTTP: metrics, its health, and a page with its state
// and events. It only reads, and the node waits for none of it.
//
//	/metrics        for Prometheus
//	/healthz        200 while the process serves
//	/readyz         200 while the node is of use, else 503 and why
//	/?token=…       the page, with /api/state and /api/events behind it
//	/debug/pprof/   profiles, if they are turned on
//
// The page and what is behind it show where users go. They need the token, which is new at each
// start, and an encrypted connection or one that doesn't leave the machine. On a unix socket, whose
// permissions protect it, they need neither.
package status
