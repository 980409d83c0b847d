//go:build unix

package control

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// meetingSuffix is that of the socket on which the process that takes over connects.
const meetingSuffix = ".take"

// TakeOver asks the node to hand its listeners over to this process, and returns the connection for
// package takeover.
func (c *Client) TakeOver(ctx context.Context, request TakeOver) (*net.UnixConn, error) {
	if err := c.bounded(ctx, "take-over", request, nil); err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(c.path, socketSuffix) + meetingSuffix
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// takeOver answers a request to take over, and hands the connection of the process that has asked
// to the node.
func (s *Server) takeOver(w http.ResponseWriter, r *http.Request, node Node) {
	if node.TakeOver == nil {
		refuse(w, &Error{What: "only a remote can be taken over"})
		return
	}
	var request TakeOver
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&request); err != nil {
		reply(w, http.StatusBadRequest, &Error{What: "not a request to take over: " + err.Error()})
		return
	}
	act, err := node.TakeOver(request)
	if err != nil {
		refuse(w, err)
		return
	}
	path := filepath.Join(s.socket.folder(), s.socket.Name+meetingSuffix)
	os.Remove(path) // of a process that was killed
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		act(nil)
		refuse(w, err)
		return
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		act(nil)
		refuse(w, err)
		return
	}
	s.meeting.Go(func() { act(meet(ln)) })
	reply(w, http.StatusOK, struct{}{})
}

// meet accepts one connection of the user's own, for meetingTimeout at most. It returns nil when
// none has come.
func meet(ln *net.UnixListener) *net.UnixConn {
	defer ln.Close()
	ln.SetDeadline(time.Now().Add(meetingTimeout))
	conn, err := (&ownListener{ln}).Accept()
	if err != nil {
		return nil
	}
	return conn.(*net.UnixConn)
}
