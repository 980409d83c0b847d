package cli

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/quota"
	"culvert/internal/secretfile"
	"culvert/internal/systemd"
	"culvert/tunnel"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// shareOptions bound what one client may use of a remote, unless the line of its key decides that.
type shareOptions struct {
	sessions int
	streams  int
	rate     string
	quota    string

	stateDir string // "" for the default one
}

func (o *shareOptions) define(s *flags.Set) {
	s.Group("share of one client")
	s.Int(&o.sessions, "client-sessions", tunnel.DefaultClientSessions,
		"limit the concurrent sessions of one client to `N`; sessions=N in the line of its key "+
			"takes precedence").Reloadable()
	s.Int(&o.streams, "client-streams", tunnel.DefaultClientStreams,
		"limit the concurrent streams of one client, in all its sessions, to `N`; likewise streams=N").
		Reloadable()
	s.String(&o.rate, "client-rate", "",
		"limit the bytes a second that one client sends and receives to `UP/DOWN`, such as 20M/- "+
			"(K, M, G; - for no limit); likewise rate=UP/DOWN").Reloadable()
	s.String(&o.quota, "client-quota", "",
		"limit the bytes that one client sends and receives in a day of UTC to `BYTES`, such as 20G; "+
			"likewise quota=BYTES").Reloadable()
	s.String(&o.stateDir, "state-dir", "", "keep in the folder `DIR` what clients have used of their "+
		"quotas (default: culvert's folder of the user's state, or STATE_DIRECTORY)")
}

const (
	rateForm  = "it is UP/DOWN in bytes a second, with K, M or G; - is no limit"
	quotaForm = "it is the bytes of a day, with K, M or G; - is no limit"

	rateHint = "rate=UP/DOWN limits the bytes a second from the client and to it, " +
		"with K, M or G, such as 20M/100M; - is no limit"
	quotaHint = "quota=BYTES limits the bytes of a day, with K, M or G, such as 20G; - is no limit"
)

// parse returns the share of a client whose line has no options.
func (o *shareOptions) parse() (share policy.Share, err error) {
	err = errors.Join( // the first is reported
		leastNumber("client-sessions", o.sessions, 1, tunnel.DefaultClientSessions),
		leastNumber("client-streams", o.streams, 1, tunnel.DefaultClientStreams),
	)
	if err != nil {
		return share, err
	}
	share = policy.Share{Sessions: o.sessions, Streams: o.streams}
	if o.rate != "" {
		if share.Up, share.Down, err = policy.ParseRate(o.rate); err != nil {
			return share, &flags.ValueError{
				Flag: "client-rate", Value: o.rate, Why: err.Error(), Form: rateForm, Example: "20M/100M",
			}
		}
	}
	if o.quota != "" {
		if share.Quota, err = policy.ParseQuota(o.quota); err != nil {
			return share, &flags.ValueError{
				Flag: "client-quota", Value: o.quota, Why: err.Error(), Form: quotaForm, Example: "20G",
			}
		}
	}
	return share, nil
}

// openLedger opens the counts of what clients have used of their quotas at the remote with a key.
func (o *shareOptions) openLedger(key certs.PublicKey, log zerolog.Logger) (*quota.Ledger, error) {
	path, err := o.ledgerFile(key)
	if err != nil {
		return nil, exit.Fail(exit.Failed, "no folder for the use of quotas", err,
			"give one with --state-dir DIR")
	}
	ledger, err := quota.Open(path, func(err error) {
		log.Warn().Err(err).Msg("the use of quotas isn't saved, and tried again")
	})
	if err != nil {
		hint := secretfile.Hint(err, path)
		if hint == "" {
			hint = "remove the file, and quotas begin again"
		}
		return nil, exit.Fail(exit.Failed, "can't use the file with the use of quotas", err, hint)
	}
	return ledger, nil
}

// ledgerFile returns the file of what clients have used at the remote with a key.
func (o *shareOptions) ledgerFile(key certs.PublicKey) (string, error) {
	dir, err := o.stateFolder()
	return filepath.Join(dir, "quota-"+key.String()+".json"), err
}

// stateFolder returns the folder for what has to outlive a restart. On systems without a place for
// it, that is the one of the user's configuration.
func (o *shareOptions) stateFolder() (string, error) {
	if o.stateDir != "" {
		return o.stateDir, nil
	}
	if dir := systemd.StateFolder(); dir != "" {
		return dir, nil
	}
	switch runtime.GOOS {
	case "windows", "darwin", "ios":
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "culvert"), err
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "culvert"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "state", "culvert"), err
}
