package protocol

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/certs"
)

// exchange is a handshake between the step functions, stopped before step 5 is decided.
type exchange struct {
	client              *clientHandshake
	server              *serverHandshake
	hello, reply, ready []byte
}

// newExchange runs steps 2 to 4, which must succeed.
func newExchange(tb testing.TB, p parties) *exchange {
	tb.Helper()
	e := newHalfExchange(tb, p)
	var err error
	if e.ready, err = e.client.step4VerifyServerHello(e.reply); err != nil {
		tb.Fatal(err)
	}
	return e
}

// newHalfExchange runs steps 2 and 3, which must succeed.
func newHalfExchange(tb testing.TB, p parties) *exchange {
	tb.Helper()
	e := &exchange{}
	var err error
	if e.client, err = newClientHandshake(p.client); err != nil {
		tb.Fatal(err)
	}
	if e.server, err = newServerHandshake(p.server); err != nil {
		tb.Fatal(err)
	}
	if e.hello, err = e.client.step2ClientHello(); err != nil {
		tb.Fatal(err)
	}
	if e.reply, err = e.server.step3ServerHello(e.hello); err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestStepsGrant(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newParties(t, v.version, v.requireCert)
			var atClient, atServer Peer
			p.client.VerifyServer = func(peer Peer) error { atClient = peer; return nil }
			p.server.Admit = func(peer Peer) error { atServer = peer; return nil }
			e := newExchange(t, p)
			o, err := e.server.step5VerifyClientReady(e.ready)
			if err != nil {
				t.Fatal(err)
			}
			c, err := e.client.step6SecureContext()
			if err != nil {
				t.Fatal(err)
			}
			if e.client.own != e.server.client || e.client.server != e.server.own {
				t.Error("the ends do not have the same secrets")
			}
			if e.client.own.nonce == e.client.helloNonce {
				t.Error("the client's second nonce is not a fresh one")
			}
			wantClient := Peer{Version: v.version, Key: p.server.Key.Public(),
				Addr: p.client.ServerAddr}
			if v.version == Version2 {
				if atClient.Cert == nil || atClient.Cert.GID() != p.server.Cert.GID() {
					t.Error("the client did not get the server's certificate")
				}
				wantClient.Cert = atClient.Cert
			}
			if atClient != wantClient || c.who != wantClient {
				t.Errorf("client sees %+v, want %+v", atClient, wantClient)
			}
			wantServer := Peer{Version: v.version, Key: p.client.Key.Public(),
				Addr: p.server.PeerAddr}
			if v.requireCert {
				if atServer.Cert == nil || atServer.Cert.GID() != p.client.Cert.GID() {
					t.Error("the server did not get the client's certificate")
				}
				wantServer.Cert = atServer.Cert
			}
			if atServer != wantServer || o.who != wantServer {
				t.Errorf("server sees %+v, want %+v", atServer, wantServer)
			}
		})
	}
}

// TestVersion1IgnoresTail adds bytes to the boxes of version 1 that the specification does not
// have.
func TestVersion1IgnoresTail(t *testing.T) {
	e := newHalfExchange(t, newParties(t, Version1, false))
	plain := append(e.server.own.append(nil), `{"not":"looked at`...)
	reply := serverHello{Version1, e.server.cfg.Key.Public(),
		e.server.shared.seal(plain, e.client.helloNonce)}
	if _, err := e.client.step4VerifyServerHello(reply.marshal()); err != nil {
		t.Fatal(err)
	}
	plain = append(e.client.own.append(nil), 0, 1, 2)
	ready := clientReady{Version1, e.server.shared.seal(plain, e.server.own.nonce)}
	if _, err := e.server.step5VerifyClientReady(ready.marshal()); err != nil {
		t.Fatal(err)
	}
}

// TestClientCertificateNotRequired sends something other than {} to a server that requires no
// certificate.
func TestClientCertificateNotRequired(t *testing.T) {
	e := newExchange(t, newParties(t, Version2, false))
	for _, tail := range []string{"", "{}", "not JSON", `{"desc":{}}`} {
		ready := clientReady{Version2, e.server.shared.seal(append(e.client.own.append(nil),
			tail...), e.server.own.nonce)}
		o, err := e.server.step5VerifyClientReady(ready.marshal())
		if err != nil || o.who.Cert != nil {
			t.Errorf("tail %q: %v, certificate %v", tail, err, o.who.Cert)
		}
	}
}

func TestStep3Refuses(t *testing.T) {
	hello := func(version int, key certs.PublicKey) []byte {
		return clientHello{version: version, publicKey: key, nonce: [8]byte{1}}.marshal()
	}
	client := newKey(t, "client").Public()
	tests := []struct {
		name    string
		v       int
		require bool
		change  func(*parties)
		message []byte
		code    CloseCode
		want    error
	}{
		{"no JSON", 1, false, nil, []byte("hello"), CloseBadMessage, ErrBadMessage},
		{"another message", 1, false, nil, serverHello{version: 1}.marshal(), CloseBadMessage,
			ErrBadMessage},
		{"too large", 1, false, nil, bytes.Repeat([]byte{' '}, maxClientHello+1), CloseTooLarge,
			ErrTooLarge},
		{"version 3", 1, false, nil, hello(3, client), CloseVersion, ErrVersion},
		{"version 2 without a certificate to show", 1, false, nil, hello(2, client), CloseVersion,
			ErrVersion},
		{"version 1 where a certificate is required", 2, true, nil, hello(1, client), CloseVersion,
			ErrCertificateRequired},
		{"key of zeros", 1, false, nil, hello(1, certs.PublicKey{}), CloseNotAdmitted, ErrWeakKey},
		{"key one", 1, false, nil, hello(1, certs.PublicKey{1}), CloseNotAdmitted, ErrWeakKey},
		{"no randomness", 1, false, func(p *parties) {
			p.server.rand = fixedRand(1, 2, 3)
		}, hello(1, client), CloseInternal, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newParties(t, tt.v, tt.require)
			if tt.change != nil {
				tt.change(&p)
			}
			h, err := newServerHandshake(p.server)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := h.step3ServerHello(tt.message)
			wantHandshakeError(t, err, "3", tt.code)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if answer != nil {
				t.Error("there is an answer besides the error")
			}
		})
	}
}

// TestStep3AnswersBothVersions uses a server with a certificate that requires none of clients.
func TestStep3AnswersBothVersions(t *testing.T) {
	p := newParties(t, Version2, false)
	newExchange(t, p)
	p.client.Version = Version1
	newExchange(t, p)
}

func TestStep3RefusesReplay(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newParties(t, v.version, v.requireCert)
			e := newExchange(t, p)
			again, err := newServerHandshake(p.server) // another connection of the same server
			if err != nil {
				t.Fatal(err)
			}
			_, err = again.step3ServerHello(e.hello)
			wantHandshakeError(t, err, "3", CloseReplayed)
			if !errors.Is(err, ErrReplay) {
				t.Errorf("got %v, want ErrReplay", err)
			}
		})
	}
}

// TestOtherSpellingsOfKeys: X25519 ignores a bit of a public key, which would make one pair of a
// key and a nonce look like two, and a remote's key like another's.
func TestOtherSpellingsOfKeys(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newParties(t, v.version, v.requireCert)
			e := newExchange(t, p)
			hello, err := parseClientHello(e.hello)
			if err != nil {
				t.Fatal(err)
			}
			hello.publicKey[31] ^= 0x80
			again, err := newServerHandshake(p.server)
			if err != nil {
				t.Fatal(err)
			}
			_, err = again.step3ServerHello(hello.marshal())
			wantHandshakeError(t, err, "3", CloseNotAdmitted)
			if !errors.Is(err, ErrWeakKey) {
				t.Errorf("got %v, want ErrWeakKey", err)
			}
			half := newHalfExchange(t, newParties(t, v.version, v.requireCert))
			reply, err := parseServerHello(half.reply, v.version)
			if err != nil {
				t.Fatal(err)
			}
			reply.publicKey[31] ^= 0x80
			_, err = half.client.step4VerifyServerHello(reply.marshal())
			if !errors.Is(err, ErrWeakKey) {
				t.Errorf("a server's key in another spelling: %v", err)
			}
		})
	}
}

func TestStep4bRejects(t *testing.T) {
	errPin := errors.New("another key is pinned")
	other := newAuthority(t, "Other CA")
	sameName := newAuthority(t, "Test CA")
	tests := []struct {
		name     string
		v        int
		require  bool
		change   func(*parties)
		code     CloseCode
		identity bool
		want     error
		reason   certs.Reason
	}{
		{name: "VerifyServer refuses in version 1", v: 1, code: CloseIdentity, identity: true,
			want: errPin,
			change: func(p *parties) {
				p.client.VerifyServer = func(Peer) error { return errPin }
			}},
		{name: "VerifyServer refuses in version 2", v: 2, code: CloseIdentity, identity: true,
			want: errPin,
			change: func(p *parties) {
				p.client.VerifyServer = func(Peer) error { return errPin }
			}},
		{name: "wrong CA name", v: 2, code: CloseIdentity, identity: true,
			reason: certs.ReasonWrongCA,
			change: func(p *parties) { p.client.CA = other.ca.Certificate() }},
		{name: "wrong CA key", v: 2, code: CloseIdentity, identity: true,
			reason: certs.ReasonBadSignature,
			change: func(p *parties) { p.client.CA = sameName.ca.Certificate() }},
		{name: "expired", v: 2, code: CloseIdentity, identity: true, reason: certs.ReasonExpired,
			change: func(p *parties) {
				p.client.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
			}},
		{name: "wrong host", v: 2, code: CloseIdentity, identity: true,
			reason: certs.ReasonWrongHost,
			change: func(p *parties) { p.client.ServerName = "evil-remote.example" }},
		{name: "wrong address", v: 2, code: CloseIdentity, identity: true,
			reason: certs.ReasonWrongHost,
			change: func(p *parties) {
				p.server.Cert = p.authority.issue(t, p.server.Key, nil, []string{"127.0.0.2"})
			}},
		{name: "no client certificate", v: 2, require: true, code: CloseCertificate,
			want:   ErrCertificateRequired,
			change: func(p *parties) { p.client.Cert = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newParties(t, tt.v, tt.require)
			tt.change(&p)
			e := newHalfExchange(t, p)
			ready, err := e.client.step4VerifyServerHello(e.reply)
			wantHandshakeError(t, err, "4b", tt.code)
			if ready != nil {
				t.Error("there is a ClientReady besides the error")
			}
			var identity *IdentityError
			if errors.As(err, &identity) != tt.identity {
				t.Errorf("got %v; IdentityError: want %v", err, tt.identity)
			}
			if identity != nil && identity.Key != p.server.Key.Public() {
				t.Errorf("the error is about key %v", identity.Key)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			wantReason(t, err, tt.reason)
		})
	}
}

func wantReason(t *testing.T, err error, reason certs.Reason) {
	t.Helper()
	var verify *certs.VerifyError
	if reason != 0 && (!errors.As(err, &verify) || verify.Reason != reason) {
		t.Errorf("got %v, want the reason %v", err, reason)
	}
}

// TestStep4aHost verifies certificates for the URL's host: an address, or a name or its parent.
func TestStep4aHost(t *testing.T) {
	for _, tt := range []struct {
		names, ips []string
		host       string
		addr       string
	}{
		{nil, []string{"127.0.0.1"}, "127.0.0.1", "127.0.0.1"},
		{nil, []string{"127.0.0.1"}, "::ffff:127.0.0.1", "127.0.0.1"},
		{nil, []string{"2001:db8::1"}, "2001:DB8:0::1", "::1"},
		{[]string{"127.0.0.1"}, nil, "127.0.0.1", "::1"},
		{[]string{"example"}, nil, "Remote.Example", "::1"},
	} {
		p := newParties(t, Version2, false)
		p.server.Cert = p.authority.issue(t, p.server.Key, tt.names, tt.ips)
		p.client.ServerName, p.client.ServerAddr = tt.host, netip.MustParseAddr(tt.addr)
		newExchange(t, p)
	}
}

// TestStep4bForgedBox sends the client boxes of a server that violates the specification.
func TestStep4bForgedBox(t *testing.T) {
	a := newAuthority(t, "Test CA")
	serverKey := newKey(t, "server")
	tail := func(cert *certs.Certificate) string {
		return `{"cert":` + string(cert.JSON()) + `,"requireCert":false}`
	}
	tests := []struct {
		name     string
		v        int
		tail     string
		cut      int
		identity bool
		code     CloseCode
		reason   certs.Reason
	}{
		{name: "box of 39 bytes", v: 1, cut: 1, code: CloseBadMessage},
		{name: "empty box", v: 1, cut: secretsSize, code: CloseBadMessage},
		{name: "version 2 without JSON", v: 2, code: CloseBadMessage},
		{name: "version 2 with {}", v: 2, tail: "{}", code: CloseBadMessage},
		{name: "certificate for another key", v: 2, identity: true, code: CloseIdentity,
			reason: certs.ReasonWrongKey,
			tail:   tail(a.issue(t, newKey(t, "other"), []string{"remote.example"}, nil))},
		{name: "the CA's own certificate", v: 2, identity: true, code: CloseIdentity,
			reason: certs.ReasonWrongType,
			tail:   tail(a.ca.Certificate())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newParties(t, tt.v, false)
			if tt.v == Version2 {
				p.client.CA = a.ca.Certificate()
				p.server.Cert = a.issue(t, serverKey, []string{"remote.example"}, nil)
			}
			e := newHalfExchange(t, p)
			plain := e.server.own.append(nil)
			plain = append(plain[:len(plain)-tt.cut], tt.tail...)
			reply := serverHello{tt.v, serverKey.Public(),
				e.server.shared.seal(plain, e.client.helloNonce)}
			_, err := e.client.step4VerifyServerHello(reply.marshal())
			wantHandshakeError(t, err, "4b", tt.code)
			var identity *IdentityError
			if errors.As(err, &identity) != tt.identity {
				t.Errorf("got %v; IdentityError: want %v", err, tt.identity)
			}
			wantReason(t, err, tt.reason)
		})
	}
}

// TestStep4bWrongServerKey is an attacker with every public key, but no secret one.
func TestStep4bWrongServerKey(t *testing.T) {
	e := newHalfExchange(t, newParties(t, Version1, false))
	attacker, err := newSharedKey(newKey(t, "attacker"), e.client.cfg.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	plain := e.server.own.append(nil)
	claimed := serverHello{Version1, e.server.cfg.Key.Public(),
		attacker.seal(plain, e.client.helloNonce)}
	_, err = e.client.step4VerifyServerHello(claimed.marshal())
	wantHandshakeError(t, err, "4b", CloseNotOpened)
	if !errors.Is(err, ErrNotOpened) {
		t.Errorf("got %v, want ErrNotOpened", err)
	}
	weak := serverHello{Version1, certs.PublicKey{}, claimed.box}
	_, err = e.client.step4VerifyServerHello(weak.marshal())
	wantHandshakeError(t, err, "4b", CloseIdentity)
	if !errors.Is(err, ErrWeakKey) {
		t.Errorf("got %v, want ErrWeakKey", err)
	}
}

func TestStep5bRejects(t *testing.T) {
	errList := errors.New("not in the list")
	tests := []struct {
		name    string
		v       int
		require bool
		change  func(*parties)
		code    CloseCode
		want    error
		reason  certs.Reason
	}{
		{name: "Admit refuses", v: 1, code: CloseNotAdmitted, want: errList,
			change: func(p *parties) { p.server.Admit = func(Peer) error { return errList } }},
		{name: "Admit refuses in version 2", v: 2, require: true, code: CloseNotAdmitted,
			want:   ErrNotAdmitted,
			change: func(p *parties) { p.server.Admit = func(Peer) error { return errList } }},
		{name: "no Admit", v: 1, code: CloseNotAdmitted, want: ErrNotAdmitted,
			change: func(p *parties) { p.server.Admit = nil }},
		{name: "wrong CA", v: 2, require: true, code: CloseCertificate, reason: certs.ReasonWrongCA,
			change: func(p *parties) {
				p.server.CA = newAuthority(t, "Other CA").ca.Certificate()
			}},
		{name: "expired", v: 2, require: true, code: CloseCertificate, reason: certs.ReasonExpired,
			change: func(p *parties) {
				p.server.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
			}},
		{name: "wrong address", v: 2, require: true, code: CloseCertificate,
			reason: certs.ReasonWrongAddress,
			change: func(p *parties) {
				p.client.Cert = p.authority.issue(t, p.client.Key, nil,
					[]string{"127.0.0.2", "::1"})
			}},
		{name: "revoked", v: 2, require: true, code: CloseCertificate, reason: certs.ReasonRevoked,
			change: func(p *parties) {
				list, err := certs.ParseRevocations(strings.NewReader(p.client.Cert.GID() + "\n"))
				if err != nil {
					t.Fatal(err)
				}
				p.server.Revoked = list
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newParties(t, tt.v, tt.require)
			tt.change(&p)
			e := newExchange(t, p)
			o, err := e.server.step5VerifyClientReady(e.ready)
			wantHandshakeError(t, err, "5b", tt.code)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			wantReason(t, err, tt.reason)
			if o != (outcome{}) {
				t.Error("there is an outcome besides the error")
			}
		})
	}
}

// TestStep5aAddressListed is a client whose certificate lists its address.
func TestStep5aAddressListed(t *testing.T) {
	p := newParties(t, Version2, true)
	p.client.Cert = p.authority.issue(t, p.client.Key, nil, []string{"::1", "127.0.0.1"})
	e := newExchange(t, p)
	if _, err := e.server.step5VerifyClientReady(e.ready); err != nil {
		t.Fatal(err)
	}
}

// TestStep5bForgedBox sends the server boxes of a client that violates the specification.
func TestStep5bForgedBox(t *testing.T) {
	a := newAuthority(t, "Test CA")
	tests := []struct {
		name   string
		tail   string
		cut    int
		code   CloseCode
		want   error
		reason certs.Reason
	}{
		{name: "box of 39 bytes", cut: 1, code: CloseBadMessage, want: ErrBadMessage},
		{name: "no JSON", code: CloseCertificate, want: certs.ErrMalformedCertificate},
		{name: "no certificate", tail: " {}\n", code: CloseCertificate,
			want: ErrCertificateRequired},
		{name: "certificate for another key", code: CloseCertificate, reason: certs.ReasonWrongKey,
			tail: string(a.issue(t, newKey(t, "other"), nil, nil).JSON())},
		{name: "the CA's own certificate", code: CloseCertificate, reason: certs.ReasonWrongType,
			tail: string(a.ca.Certificate().JSON())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newParties(t, Version2, true)
			p.server.CA = a.ca.Certificate()
			e := newExchange(t, p)
			plain := e.client.own.append(nil)
			plain = append(plain[:len(plain)-tt.cut], tt.tail...)
			ready := clientReady{Version2, e.server.shared.seal(plain, e.server.own.nonce)}
			_, err := e.server.step5VerifyClientReady(ready.marshal())
			wantHandshakeError(t, err, "5b", tt.code)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			wantReason(t, err, tt.reason)
		})
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	clients := map[string]func(*ClientConfig){
		"no key":                      func(c *ClientConfig) { c.Key = nil },
		"version 0":                   func(c *ClientConfig) { c.Version = 0 },
		"version 3":                   func(c *ClientConfig) { c.Version = 3 },
		"version 1, no VerifyServer":  func(c *ClientConfig) { c.Version, c.VerifyServer = 1, nil },
		"version 2, no CA":            func(c *ClientConfig) { c.CA = nil },
		"certificate for another key": func(c *ClientConfig) { c.Key = newKey(t, "other") },
		"negative timeout":            func(c *ClientConfig) { c.Timeout = -1 },
		"negative message":            func(c *ClientConfig) { c.MaxMessage = -1 },
	}
	for name, change := range clients {
		cfg := newParties(t, Version2, true).client
		change(&cfg)
		if _, err := newClientHandshake(cfg); err == nil {
			t.Errorf("client, %s: no error", name)
		}
	}
	servers := map[string]func(*ServerConfig){
		"no key":                      func(c *ServerConfig) { c.Key = nil },
		"no replay cache":             func(c *ServerConfig) { c.Replay = nil },
		"required without own":        func(c *ServerConfig) { c.Cert = nil },
		"required without CA":         func(c *ServerConfig) { c.CA = nil },
		"certificate for another key": func(c *ServerConfig) { c.Key = newKey(t, "other") },
		"negative timeout":            func(c *ServerConfig) { c.Timeout = -1 },
	}
	for name, change := range servers {
		cfg := newParties(t, Version2, true).server
		change(&cfg)
		if _, err := newServerHandshake(cfg); err == nil {
			t.Errorf("server, %s: no error", name)
		}
	}
}
