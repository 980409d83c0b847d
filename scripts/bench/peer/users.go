package peer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"culvert/certs"
)

// startUsers starts a remote for the setting's number of users, each with a key of its own. The
// load connects to it in their place.
func startUsers(ctx context.Context, s Setting, p *Peer) error {
	key, err := s.culvertKey(ctx, "remote")
	if err != nil {
		return err
	}
	var lines strings.Builder
	for range s.Users {
		pair, err := certs.GenerateKeyPair(rand.Reader)
		if err != nil {
			return err
		}
		lines.WriteString(pair.Public().String() + "\n")
		p.Users = append(p.Users, hex.EncodeToString(pair.Secret()[:]))
	}
	authorized, err := s.write("authorized_keys", lines.String())
	if err != nil {
		return err
	}
	address, err := s.server(ctx, p, func(listen string) error {
		_, err := s.culvert(ctx, p, s.Far, "remote", slices.Concat(unobserved, []string{
			"--listen", listen, "--authorized-keys", authorized,
			"--max-handshake-rate", "100000", "--max-sessions", strconv.Itoa(s.Users + 1)})...)
		return err
	})
	p.Remote, p.RemoteKey = "ws://"+address+"/", key
	return err
}
