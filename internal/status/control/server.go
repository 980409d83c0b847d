package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"culvert/internal/httplog"
	"culvert/internal/state"

	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"
)

// Node is what a socket can ask of the process. All functions may be called concurrently. A nil one
// is nothing that this kind of node does.
type Node struct {
	State  func(ctx context.Context) state.State
	Stop   func() // begins to drain; doesn't wait
	Reload func(ctx context.Context) error
	Move   func() // makes all clients open other sessions; doesn't wait

	Restart func(ctx context.Context) error // starts another process in place of this one

	AddForward    func(ctx context.Context, f Forward) (address string, err error)
	CancelForward func(ctx context.Context, f Forward) error

	// TakeOver decides on a request to take over. The function that it returns is called once, with
	// the connection of whoever asked, or with nil if that didn't come. It must not wait.
	TakeOver func(TakeOver) (func(*net.UnixConn), error)
}

// Server answers on a Socket until it is closed.
type Server struct {
	socket  *Socket
	http    *http.Server
	end     context.CancelFunc
	serving sync.WaitGroup
	meeting sync.WaitGroup // with processes that take over
}

// Serve starts answering on a socket.
func Serve(s *Socket, node Node, log zerolog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	server := &Server{socket: s, end: cancel, http: newHTTP(ctx, httplog.New(log))}
	server.http.Handler = httplog.Recover(log, server.handler(node))
	server.serveOn(s.listener)
	server.serving.Go(func() { server.keep(ctx, log) })
	return server
}

// serveOn answers on a listener, which the Socket closes.
func (s *Server) serveOn(ln net.Listener) {
	bounded := netutil.LimitListener(&ownListener{ln}, maxConns)
	s.serving.Go(func() { s.http.Serve(bounded) }) // its error is that it was closed
}

// keep makes the socket once more whenever it has been removed, until ctx ends. A failure is logged
// once.
func (s *Server) keep(ctx context.Context, log zerolog.Logger) {
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.restore()
		if err != nil && !failed {
			log.Warn().Err(err).Msg("the control socket was removed, and can't be made again: " +
				"culvert status can't see this node")
		}
		failed = err != nil
	}
}

// restore makes the socket once more if it has been removed, and answers on it.
func (s *Server) restore() error {
	ln, err := s.socket.restore()
	if ln != nil {
		s.serveOn(ln)
	}
	return err
}

// newHTTP returns the HTTP server of a node, without its handler. Requests are cut when ctx ends.
func newHTTP(ctx context.Context, complaints *log.Logger) *http.Server {
	return &http.Server{
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          complaints,
	}
}

// Close stops answering, removes the socket and gives its name back. Requests that are under way
// are cut; that ends the answer to those that asked the node to stop.
func (s *Server) Close() error {
	s.end()
	s.http.Close()
	s.serving.Wait()
	s.meeting.Wait()
	return s.socket.Close()
}

// Retire is Close once what is being asked is answered, for which it waits a moment at most.
func (s *Server) Retire() error {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), retireTimeout)
	defer cancel()
	s.http.Shutdown(ctx) // an error is that the time is over
	return s.Close()
}

// ownListener accepts connections of the user's own processes, and of root's. The folder keeps
// others out, too.
type ownListener struct{ net.Listener }

// Accept closes connections of other users without a word.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if isOwn(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

// isOwn reports whether the peer of a connection is the user's or root's, as far as the system
// tells.
func isOwn(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	var user int
	var known bool
	var failed error
	if err := raw.Control(func(fd uintptr) { user, known, failed = peerUser(fd) }); err != nil {
		return false
	}
	if failed != nil {
		return false
	}
	return !known || user == os.Geteuid() || user == 0
}

func (s *Server) handler(node Node) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/state", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, node.State(r.Context()))
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		stop(w, r, node)
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, node.Reload(r.Context()))
	})
	mux.HandleFunc("POST /v1/reload/drain", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, reloadAndMove(r.Context(), node))
	})
	mux.HandleFunc("POST /v1/forwards/add", func(w http.ResponseWriter, r *http.Request) {
		if f, ok := readForward(w, r, node.AddForward != nil); ok {
			address, err := node.AddForward(r.Context(), f)
			answer(w, Added{address}, err)
		}
	})
	mux.HandleFunc("POST /v1/forwards/cancel", func(w http.ResponseWriter, r *http.Request) {
		if f, ok := readForward(w, r, node.CancelForward != nil); ok {
			answer(w, struct{}{}, node.CancelForward(r.Context(), f))
		}
	})
	mux.HandleFunc("POST /v1/restart", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, restart(r.Context(), node))
	})
	mux.HandleFunc("POST /v1/take-over", func(w http.ResponseWriter, r *http.Request) {
		s.takeOver(w, r, node)
	})
	return mux
}

// reloadAndMove makes the node reload and, if that succeeds, all its clients open other sessions.
func reloadAndMove(ctx context.Context, node Node) error {
	if node.Move == nil {
		return &Error{What: "only a remote has sessions that move", Hint: "leave --drain out"}
	}
	err := node.Reload(ctx)
	if err == nil {
		node.Move()
	}
	return err
}

func restart(ctx context.Context, node Node) error {
	if node.Restart == nil {
		return &Error{What: "only a remote can be restarted", Hint: "stop it, and start it"}
	}
	return node.Restart(ctx)
}

// stop makes the node drain. The answer lasts until the node has ended.
func stop(w http.ResponseWriter, r *http.Request, node Node) {
	w.WriteHeader(http.StatusAccepted)
	control := http.NewResponseController(w)
	control.SetWriteDeadline(noDeadline)
	control.Flush() // first, since the node may end at once
	node.Stop()
	<-r.Context().Done()
}

// readForward reads the forward that a request is about. It answers the request if it can't be
// served.
func readForward(w http.ResponseWriter, r *http.Request, served bool) (f Forward, ok bool) {
	if !served {
		refuse(w, &Error{What: "only a local has forwards"})
		return f, false
	}
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		reply(w, http.StatusBadRequest, &Error{What: "not a forward: " + err.Error()})
		return f, false
	}
	switch f.Kind {
	case ForwardLocal, ForwardReverse, ForwardSocks:
		return f, true
	}
	reply(w, http.StatusBadRequest, &Error{What: "not a kind of forward"})
	return f, false
}

// answer answers with a value or, if it isn't nil, an error.
func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, value)
}

func refuse(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*Error](err)
	if !ok {
		refusal = &Error{What: err.Error()}
	}
	reply(w, http.StatusConflict, refusal)
}

func reply(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(text, '\n')) // an error is the client's
}
