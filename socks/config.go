package socks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"culvert/internal/bounds"

	"github.com/rs/zerolog"
)

// Dialer opens the connection to a client's target. The network is always "tcp". The address is
// "host:port" as net.JoinHostPort writes it; the host is what the client sent, an address or an
// unresolved name. A name is UTF-8 without control characters and spaces; otherwise its resolver
// decides whether it is valid.
//
// A Dialer may return before the target is reached. The client then gets a success, and a reset if
// the target can't be reached: see Config.Unreached.
//
// A Dialer returns soon after ctx ends: because the dial timed out, the client went away, or the
// server stops. The connection it returns outlives ctx, which ends when the Dialer has returned,
// and may have CloseWrite, which the Relay uses.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Relay copies between client and target until both directions have ended. It passes on an end of
// file with CloseWrite, so that the other direction continues, and an error of one side as a reset
// of the other. When ctx ends it resets both sides and returns.
//
// It returns nil only if both directions ended with an end of file. Once it has
// returned, the server closes both connections, after an error with a reset of
// the client (SetLinger(0)) in case the Relay left it open.
//
// The client is the accepted connection, unless it sent data ahead of the reply or has failed by
// then, as Read reports after its data. In these cases it is a wrapper that yields that data first
// and that has SetLinger and, like the accepted connection, CloseWrite. So a Relay looks for those
// methods by interface rather than for *net.TCPConn. The wrapper also has NetConn, and Early, which
// takes that data out of it.
type Relay func(ctx context.Context, client, target net.Conn) error

// Config configures a Server. Dial and Relay are required; for every other field the zero value is
// a documented default.
type Config struct {
	// Dial opens the connection to a client's target. Many calls run at once.
	Dial Dialer

	// Relay carries an opened connection. Many calls run at once.
	Relay Relay

	// Classify turns an error of Dial into the reply that the client gets; nil means
	// ClassifyNetError. A code that is not a failure is taken for ReplyGeneralFailure.
	Classify func(error) Reply

	// Unreached reports whether an error of a connection's reads and writes means that the target
	// was not reached after the Dialer had returned. A client without a reply yet, one of a
	// forwarded HTTP request, then gets the reply of Classify. Nil means that the Dialer always
	// waits for the target.
	Unreached func(error) bool

	// Associate opens an association for UDP ASSOCIATE, as Dial does a connection;
	// its errors are classified too. Nil means that the command is not supported.
	Associate func(ctx context.Context) (Association, error)

	// MaxAssociations bounds the concurrent associations; 0 means DefaultMaxAssociations. Further
	// ones are refused.
	MaxAssociations int

	// UDPIdleTimeout is how long an association may be idle in both directions
	// before it ends; 0 means DefaultUDPIdleTimeout.
	UDPIdleTimeout time.Duration

	// Username and Password are what a client must present, by RFC 1929 or HTTP's
	// Basic scheme, 1 to 255 bytes each, the name without a colon. Both empty means
	// that clients need no authentication. Otherwise SOCKS4, which can't carry
	// them, is refused, and UDP ASSOCIATE must name the port that the client sends from.
	Username, Password string

	// NegotiationTimeout bounds the time from accepting a connection to having
	// read its request, or, of a further HTTP request, from its first byte to the
	// end of its head; 0 means DefaultNegotiationTimeout.
	NegotiationTimeout time.Duration

	// DialTimeout bounds one call of Dial; 0 means DefaultDialTimeout.
	DialTimeout time.Duration

	// MaxConns bounds the connections of the server, in any phase and over all its listeners; 0
	// means DefaultMaxConns. Further ones are accepted and closed.
	MaxConns int

	// Bounds counts what is refused because of a bound; nil counts nothing.
	Bounds *bounds.Counts

	// Log gets one event for each connection at debug level, and one for each HTTP request that is
	// refused or fails, with the client's address and the target and never a credential or a URL;
	// also dropped datagrams, at most one a second for each reason; and trouble with accepting at
	// warn level. Nil is silent.
	Log *zerolog.Logger
}

// withDefaults returns a checked copy with every default filled in.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dial == nil:
		return c, errors.New("socks: no dialer given")
	case c.Relay == nil:
		return c, errors.New("socks: no relay given")
	case (c.Username == "") != (c.Password == ""):
		return c, errors.New("socks: a user name needs a password, and a password a user name")
	case strings.Contains(c.Username, ":"):
		return c, errors.New("socks: a user name can't have a colon")
	case len(c.Username) > maxCredential || len(c.Password) > maxCredential:
		return c, fmt.Errorf("socks: user name or password longer than %d bytes", maxCredential)
	case c.NegotiationTimeout < 0 || c.DialTimeout < 0 || c.MaxConns < 0 || c.MaxAssociations < 0 ||
		c.UDPIdleTimeout < 0:
		return c, errors.New("socks: negative limit")
	}
	if c.Classify == nil {
		c.Classify = ClassifyNetError
	}
	if c.Unreached == nil {
		c.Unreached = func(error) bool { return false }
	}
	if c.NegotiationTimeout == 0 {
		c.NegotiationTimeout = DefaultNegotiationTimeout
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = DefaultDialTimeout
	}
	if c.MaxConns == 0 {
		c.MaxConns = DefaultMaxConns
	}
	if c.MaxAssociations == 0 {
		c.MaxAssociations = DefaultMaxAssociations
	}
	if c.UDPIdleTimeout == 0 {
		c.UDPIdleTimeout = DefaultUDPIdleTimeout
	}
	if c.Log == nil {
		nop := zerolog.Nop()
		c.Log = &nop
	}
	return c, nil
}
