package control

import (
	"context"
	"net"
	"net/http"

	"culvert/internal/takeover"
)

// TakeOver returns takeover.ErrUnsupported.
func (c *Client) TakeOver(context.Context, TakeOver) (*net.UnixConn, error) {
	return nil, takeover.ErrUnsupported
}

func (s *Server) takeOver(w http.ResponseWriter, _ *http.Request, _ Node) {
	refuse(w, takeover.ErrUnsupported)
}
