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

// randomBytes returns a reader of n incompressible bytes, the same ones each time.
func randomBytes(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'c', 'u', 'l', 'v', 'e', 'r', 't'}), n)
}

// sum returns the SHA-256 of everything in r, in hexadecimal.
func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// drips is the number of pieces, a line each, that /drip serves, and dripSize their size in bytes.
// One is sent every dripPause.
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

// cutSize is how many bytes serveCut sends, half of Content-Length if there is one.
const cutSize = 8 << 20

// serveCut truncates a download with a reset or an early end of file, with or without a
// Content-Length.
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

// serveDrip serves a slow download: drips pieces, or pieces until the client disconnects if length
// is "endless".
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
