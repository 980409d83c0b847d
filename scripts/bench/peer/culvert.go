package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
)

// startCulvert returns a function that starts a remote and a local with their defaults, except for
// flags of both and of the local, and without a control socket.
func startCulvert(both []string, local ...string) func(context.Context, Setting, *Peer) error {
	return func(ctx context.Context, s Setting, p *Peer) error {
		return s.startCulvert(ctx, p, slices.Concat(unobserved, both), nil, local)
	}
}

// unobserved are the flags of an end without observers.
var unobserved = []string{"--control", "none"}

// startObserved starts a remote and a local with all that observers can use.
func startObserved(ctx context.Context, s Setting, p *Peer) error {
	log, err := s.write("access.log", "")
	if err != nil {
		return err
	}
	return s.startCulvert(ctx, p, []string{"--status", "127.0.0.1:0"},
		[]string{"--access-log", log}, nil)
}

// startCulvert starts a remote and a local with flags for both, for the remote and for the local.
func (s Setting) startCulvert(ctx context.Context, p *Peer, both, remote, local []string) error {
	keys := make(map[string]string)
	for _, end := range []string{"remote", "local"} {
		key, err := s.culvertKey(ctx, end)
		if err != nil {
			return err
		}
		keys[end] = key
	}
	authorized, err := s.write("authorized_keys", keys["local"]+"\n")
	if err != nil {
		return err
	}
	address, err := s.server(ctx, p, func(listen string) error {
		_, err := s.culvert(ctx, p, s.Far, "remote", slices.Concat(both, remote,
			[]string{"--listen", listen, "--authorized-keys", authorized})...)
		return err
	})
	if err != nil {
		return err
	}
	p.Socks, err = s.culvert(ctx, p, s.Near, "local", slices.Concat(both, local,
		[]string{"--socks", "127.0.0.1:0", "--remote-key", keys["remote"], "ws://" + address + "/"})...)
	return err
}

func (s Setting) identity(end string) string { return filepath.Join(s.Folder, end+".json") }

// culvertKey generates the key pair of an end and returns its public key.
func (s Setting) culvertKey(ctx context.Context, end string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := Host{}.Command(s.Programs.Culvert, "keygen", "-o", s.identity(end))
	cmd.Env = Environment(s.Folder)
	key, err := s.Starter.Run(ctx, "culvert keygen", cmd, nil)
	return string(bytes.TrimSpace(key)), err
}

// culvert starts an end and waits until it is ready. It returns the address of the end's SOCKS5
// proxy, if there is one.
func (s Setting) culvert(ctx context.Context, p *Peer, h Host, end string,
	args ...string) (socks string, err error) {
	args = append([]string{end, "--print-ready", "--log-level", "error", "--key", s.identity(end)},
		args...)
	cmd := h.Command(s.Programs.Culvert, args...)
	cmd.Env = Environment(s.Folder)
	process, err := s.Starter.Start("culvert "+end, cmd)
	if err != nil {
		return "", err
	}
	p.add(process)
	line, err := process.Line(ctx)
	if err != nil {
		return "", err
	}
	var ready struct {
		Socks  string `json:"socks"`
		Status string `json:"status"`
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		return "", fmt.Errorf("culvert %s: ready line %q: %w", end, line, err)
	}
	if ready.Status != "" {
		o, err := observe(ready.Status)
		if err != nil {
			return "", err
		}
		p.observers = append(p.observers, o)
	}
	return ready.Socks, nil
}
