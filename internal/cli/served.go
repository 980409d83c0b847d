package cli

import (
	"net"

	"culvert/certs"
	"culvert/internal/quota"
	"culvert/internal/state"
	"culvert/tunnel"

	"github.com/rs/zerolog"
)

// servedRemote is a remote with its listeners.
type servedRemote struct {
	node      *tunnel.Remote
	observed  *nodeControl
	shown     *remoteTLS
	listeners []net.Listener
	log       zerolog.Logger
	taking    *takeOver     // nil for none
	status    *statusServer // nil for none
	ledger    *quota.Ledger

	ledgerFailure error // why quotas can't be used; nil if they can
}

func (r *servedRemote) addresses() (addresses []string) {
	for _, ln := range r.listeners {
		addresses = append(addresses, listenerAddress(ln))
	}
	return addresses
}

// noteReload logs how a reload went.
func (r *servedRemote) noteReload(err error) {
	if err != nil {
		r.log.Error().Err(err).Msg("not reloaded")
		r.observed.events.Add(state.Event{Kind: state.EventReloadFailed, Reason: err.Error()})
		return
	}
	r.log.Info().Msg("reloaded")
	r.observed.events.Add(state.Event{Kind: state.EventReloaded})
}

// show makes what observers see that of the remote.
func (r *servedRemote) show(key certs.PublicKey, list []state.Listener) {
	for _, address := range r.addresses() {
		list = append(list, state.Listener{Kind: state.ListenRemote, Address: address})
	}
	r.observed.showKey(key)
	r.observed.show(func() []state.Listener { return list })
	r.observed.attach(r.node.State)
}
