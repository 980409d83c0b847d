package peer

import (
	"context"
	"fmt"
)

// haproxyConfig is what HAProxy's documentation shows for WebSockets: HTTP mode, and a timeout for
// tunnels.
const haproxyConfig = `global
  maxconn 4000
defaults
  mode http
  timeout connect 10s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
frontend front
  bind %s
  default_backend remote
backend remote
  server remote %s
`

// startHAProxy starts HAProxy on the far host as a reverse proxy for an address. It is not one of
// the peer's own programs, so its CPU time and memory are not counted.
func (s Setting) startHAProxy(ctx context.Context, p *Peer, listen, to string) error {
	config, err := s.write("haproxy.cfg", fmt.Sprintf(haproxyConfig, listen, to))
	if err != nil {
		return err
	}
	cmd := s.Far.Command(s.Programs.HAProxy, "-db", "-q", "-f", config)
	cmd.Env = Environment(s.Folder)
	process, err := s.Starter.Start("haproxy", cmd)
	if err != nil {
		return err
	}
	p.processes = append(p.processes, process)
	return waitFor(ctx, process, listen)
}
