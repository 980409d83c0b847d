//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

// randomBytes is a reader of n bytes that can't be compressed, the same ones each time.
func randomBytes(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'c', 'u', 'l', 'v', 'e', 'r', 't'}), n)
}

// sum is the SHA-256 of all that r has, in hexadecimal.
func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// drips is the number of pieces, a line each, of what /drip serves, and dripSize their size in
// bytes. They come one a dripPause.
const (
	drips     = 20
	dripSize  = 1 << 10
	dripPause = 100 * time.Millisecond
)

// startSite starts the web server at the far end of the tunnel.
func startSite(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /random/{size}", serveRandom)
	mux.HandleFunc("PUT /sum", serveSum)
	mux.HandleFunc("GET /cut/{how}", serveCut)
	mux.HandleFunc("GET /drip/{length}", serveDrip)
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections() // a request that never ends must not hold up Close
		s.Close()
	})
	return s
}

// serveRandom serves a number of bytes.
func serveRandom(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.PathValue("size"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	io.Copy(w, randomBytes(size))
}

// serveSum answers an upload with its SHA-256.
func serveSum(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	if _, err := io.Copy(h, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%x", h.Sum(nil))
}

// cutSize is what a download that breaks off has brought by then, of twice as many bytes where it
// says how many.
const cutSize = 8 << 20

// serveCut breaks a download off: with a reset of the connection or an early end of file, after it
// has said how long it would be or has left its end to that of the connection.
func serveCut(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	how := r.PathValue("how")
	fmt.Fprint(buffered, "HTTP/1.1 200 OK\r\nConnection: close\r\n")
	switch how {
	case "reset-length", "end-length":
		fmt.Fprintf(buffered, "Content-Length: %d\r\n", 2*cutSize)
	}
	fmt.Fprint(buffered, "\r\n")
	io.Copy(buffered, randomBytes(cutSize))
	buffered.Flush()
	switch how {
	case "reset-length", "reset-open":
		conn.(*net.TCPConn).SetLinger(0) // makes Close a reset
	}
}

// serveDrip serves a slow download: one of drips pieces, or, when asked for an endless one, one
// that goes on until the client has gone.
func serveDrip(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(dripPause)
	defer tick.Stop()
	out := http.NewResponseController(w)
	endless := r.PathValue("length") == "endless"
	if !endless {
		w.Header().Set("Content-Length", strconv.Itoa(drips*dripSize))
	}
	piece := append(bytes.Repeat([]byte("."), dripSize-1), '\n')
	for i := 0; endless || i < drips; i++ {
		if _, err := w.Write(piece); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
