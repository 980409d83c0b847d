package tunnel

import (
	"crypto/tls"
	"net/http"
	"net/http/cookiejar"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// LocalConfig says how a Local reaches its remote. Address, Key and VerifyRemote or CA are required.
type LocalConfig struct {
	Address Address
	Key     *certs.KeyPair

	// VerifyRemote says whether the remote is who it should be: a pin or the file of known remotes. It is called in
	// every handshake, also of version 2, after the certificate has been verified. Its error is final.
	VerifyRemote func(protocol.Peer) error

	// CA makes the handshake one of version 2: the remote must show a certificate of this CA. Cert is what this side
	// shows when the remote requires one.
	CA   *certs.Certificate
	Cert *certs.Certificate

	TLS    *tls.Config // for wss://; nil for the system's roots
	Header http.Header // sent with the WebSocket upgrade; "Host" is the Host header in place of the address's
	Via    *Proxy      // on the way to the remote, whose name it resolves; nil for none

	// RequireForwardSecrecy refuses a remote without the handshake's extension.
	RequireForwardSecrecy bool

	// Reverse lets ListenReverse and ListenReverseUDP be used. Without it the remote can open no streams.
	Reverse bool

	// FastOpen says which targets are taken for reached before the remote has said so. The zero value is FastOpenAuto.
	FastOpen FastOpen

	// HandshakeTimeout bounds the handshake; 0 means protocol.DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration

	// Keepalive is how long the carrier may be idle before a ping; 0 means mux.DefaultKeepalive, negative never.
	Keepalive time.Duration

	// Log gets what happens to the session. The zero value is silent.
	Log zerolog.Logger

	// OnProgress, when set, is told of each step of each attempt to connect.
	OnProgress func(Progress)
}

func (c *LocalConfig) connector() *localConnector {
	client := protocol.ClientConfig{
		Version:      protocol.Version1,
		Key:          c.Key,
		VerifyServer: c.VerifyRemote,
		Timeout:      c.HandshakeTimeout,
		MaxMessage:   mux.MaxRecordSize,
	}
	if c.RequireForwardSecrecy {
		client.Extension = protocol.ExtensionRequired
	}
	if c.CA != nil {
		client.Version, client.CA, client.Cert = protocol.Version2, c.CA, c.Cert
	}
	cookies, _ := cookiejar.New(nil) // never fails without options
	return &localConnector{
		cookies:    cookies,
		address:    c.Address,
		client:     client,
		tls:        c.TLS,
		header:     c.Header,
		via:        c.Via,
		session:    mux.Config{Keepalive: c.Keepalive, NoIncoming: !c.Reverse},
		onProgress: c.OnProgress,
	}
}
