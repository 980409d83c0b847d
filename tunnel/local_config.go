package tunnel

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// LocalConfig configures a Local. Required are Address, Key, and VerifyRemote or CA. Its fields
// are the options of a local, most of them independent of the others.
type LocalConfig struct {
	Address Address
	Key     *certs.KeyPair

	// VerifyRemote decides whether the remote is the right one, by a pin or a file of known
	// remotes. It is called in every handshake, in version 2 after the certificate has been
	// verified. Its error is final, unless there was a session before: then it is as if the remote
	// could not be reached, since somebody else may answer on another network.
	VerifyRemote func(protocol.Peer) error

	// Others are the remotes to use while that of Address can't be, in order of preference. They
	// have all else in common.
	Others []OtherRemote

	// FailoverAfter is how long a lost carrier may be away until new streams go to another remote;
	// 0 means DefaultFailoverAfter. FailbackAfter is how long a session to a better remote has to
	// last until they go there; 0 means DefaultFailbackAfter.
	FailoverAfter, FailbackAfter time.Duration

	// CA selects version 2 of the handshake: the remote must present a certificate of this CA. Cert
	// is what this side presents when the remote requires one. NextCert, when set, is asked before
	// each handshake for the one to present from then on; after an error, that is the last one.
	CA       *certs.Certificate
	Cert     *certs.Certificate
	NextCert func() (*certs.Certificate, error)

	TLS    *tls.Config // for wss://; nil for the system's roots
	Header http.Header // sent with the WebSocket upgrade; "Host" replaces the address's host
	Via    *Proxy      // on the way to the remote; resolves its name; nil for none

	// NoSessionHeader leaves out the header Culvert-Session, by which a load balancer can lead a
	// session's carriers to one node, and by which an observer can tell that they belong together.
	NoSessionHeader bool

	// RequireForwardSecrecy refuses a remote without the handshake's extension.
	RequireForwardSecrecy bool

	// FastOpen selects the targets that are assumed to be reachable before the remote has answered.
	// The zero value is FastOpenAuto.
	FastOpen FastOpen

	// ConnectTimeout bounds an attempt to connect, all steps together; 0 means
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration

	// HandshakeTimeout bounds the handshake within that; 0 means that nothing else does.
	HandshakeTimeout time.Duration

	// Wait is how long Run keeps trying while the remote can't be reached at first: 0 for a single
	// attempt, negative for ever.
	Wait time.Duration

	// Keepalive is how long the carrier may be idle before it is pinged; 0 means
	// mux.DefaultKeepalive, negative never.
	Keepalive time.Duration

	// Congestion is the congestion control of carriers: "auto", "system" or a name, as package
	// congestion has them; "" means "auto".
	Congestion string

	// Memory bounds what the streams hold together, in bytes: see package budget. 0 means
	// DefaultMemory.
	Memory int64

	// Events, when set, gets the events of the session for observers.
	Events *state.Events

	// Log receives the events of the session. The zero value is silent.
	Log zerolog.Logger

	Observer Observer       // nil for none
	Bounds   *bounds.Counts // counts what is refused because of a bound; nil counts nothing

	// OnProgress, when set, is called after each step of each attempt to connect.
	OnProgress func(Progress)
}

// OtherRemote is a remote that a Local uses when it can't use a better one.
type OtherRemote struct {
	Address      Address
	VerifyRemote func(protocol.Peer) error // as that of LocalConfig
}

// connectors returns those to all remotes, in order of preference. They share the memory.
func (c *LocalConfig) connectors() []*localConnector {
	all := []*localConnector{c.connector()}
	for i, other := range c.Others {
		alike := *c
		alike.Address, alike.VerifyRemote = other.Address, other.VerifyRemote
		connector := alike.connector()
		connector.place, connector.session.Memory = i+1, all[0].session.Memory
		all = append(all, connector)
	}
	return all
}

func (c *LocalConfig) connector() *localConnector {
	timeout := c.ConnectTimeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	client := protocol.ClientConfig{
		Version:      protocol.Version1,
		Key:          c.Key,
		VerifyServer: c.VerifyRemote,
		Timeout:      c.HandshakeTimeout,
		MaxMessage:   mux.MaxRecordSize,
	}
	if client.Timeout == 0 {
		client.Timeout = timeout
	}
	if c.RequireForwardSecrecy {
		client.Extension = protocol.ExtensionRequired
	}
	if c.CA != nil {
		client.Version, client.CA, client.Cert = protocol.Version2, c.CA, c.Cert
	}
	return &localConnector{
		address: c.Address,
		client:  client,
		next:    c.NextCert,
		log:     c.Log,
		tls:     c.TLS,
		header:  c.Header,
		unnamed: c.NoSessionHeader,
		via:     c.Via,
		timeout: timeout,
		session: mux.Config{
			Keepalive: c.Keepalive, NoIncoming: true, Memory: newMemory(c.Memory),
			Bounds: c.Bounds,
		},
		congestion: newCarrierCongestion(c.Congestion, c.Log),
		onProgress: c.OnProgress,
		observer:   c.Observer,

		family:      c.Address.family,
		dialAddress: new(net.Dialer).DialContext,
		lookup:      net.DefaultResolver.LookupNetIP,
	}
}
