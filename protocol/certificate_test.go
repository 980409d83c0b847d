package protocol

import (
	"errors"
	"testing"

	"culvert/certs"
)

// refusal returns the reason for which a certificate was refused, 0 if it wasn't.
func refusal(err error) certs.Reason {
	var refused *certs.VerifyError
	if !errors.As(err, &refused) {
		return 0
	}
	return refused.Reason
}

// TestStep4bAddressForName refuses a certificate that has only the server's address where the URL
// has a name: the CA may have issued it to any client at that address.
func TestStep4bAddressForName(t *testing.T) {
	for _, tt := range []struct {
		names  []string
		host   string
		reason certs.Reason
	}{
		{nil, "remote.example", certs.ReasonWrongHost},
		{nil, "localhost", certs.ReasonWrongHost},
		{[]string{"other.example"}, "remote.example", certs.ReasonWrongHost},
		{[]string{"remote.example"}, "127.0.0.2", certs.ReasonWrongAddress},
	} {
		p := newParties(t, Version2, false)
		p.server.Cert = p.authority.issue(t, p.server.Key, tt.names, []string{"127.0.0.1"})
		p.client.ServerName = tt.host
		e := newHalfExchange(t, p)
		_, err := e.client.step4VerifyServerHello(e.reply)
		var identity *IdentityError
		if !errors.As(err, &identity) || refusal(err) != tt.reason {
			t.Errorf("names %q for %q: %v, want %v", tt.names, tt.host, err, tt.reason)
		}
	}
}

// TestUse: a certificate for one end is refused at the other, and one for its end, or for both, is
// accepted.
func TestUse(t *testing.T) {
	for _, tt := range []struct {
		server, client                   certs.Use
		refusedByClient, refusedByServer bool
	}{
		{certs.UseAny, certs.UseAny, false, false},
		{certs.UseServer, certs.UseClient, false, false},
		{certs.UseClient, certs.UseClient, true, false},
		{certs.UseServer, certs.UseServer, false, true},
	} {
		p := newParties(t, Version2, true)
		e := newHalfExchange(t, p)
		// A hostile end doesn't check what it presents, as the functions for honest ones do.
		e.server.cfg.Cert = p.authority.issueFor(t, p.server.Key, tt.server)
		e.client.cfg.Cert = p.authority.issueFor(t, p.client.Key, tt.client)
		e.server.cfg.Replay = NewReplayCache(0)
		var err error
		if e.reply, err = e.server.step3ServerHello(e.hello); err != nil {
			t.Fatal(err)
		}
		ready, err := e.client.step4VerifyServerHello(e.reply)
		if refused := refusal(err) == certs.ReasonWrongUse; refused != tt.refusedByClient ||
			(err != nil) != tt.refusedByClient {
			t.Errorf("the server shows a certificate for %q: %v", tt.server, err)
		}
		if err != nil {
			continue
		}
		_, err = e.server.step5VerifyClientReady(ready)
		if refused := refusal(err) == certs.ReasonWrongUse; refused != tt.refusedByServer ||
			(err != nil) != tt.refusedByServer {
			t.Errorf("the client shows a certificate for %q: %v", tt.client, err)
		}
	}
}

// TestOwnCertificateUse refuses a configuration with a certificate for the other end.
func TestOwnCertificateUse(t *testing.T) {
	p := newParties(t, Version2, true)
	p.server.Cert = p.authority.issueFor(t, p.server.Key, certs.UseClient)
	if _, err := newServerHandshake(p.server); refusal(err) != certs.ReasonWrongUse {
		t.Errorf("a server with a client's certificate: %v", err)
	}
	p.client.Cert = p.authority.issueFor(t, p.client.Key, certs.UseServer)
	if _, err := newClientHandshake(p.client); refusal(err) != certs.ReasonWrongUse {
		t.Errorf("a client with a server's certificate: %v", err)
	}
}

// TestVersion2Weaknesses: the reference's version 2 accepts a certificate of type self, which
// anybody can make, in place of the CA's, and keys of low order, with which everybody knows the
// shared key. Neither end accepts either here.
func TestVersion2Weaknesses(t *testing.T) {
	stranger := newAuthority(t, "Test CA").ca.Certificate()
	e := newHalfExchange(t, newParties(t, Version2, true))
	e.server.cfg.Cert, e.server.cfg.Replay = stranger, NewReplayCache(0)
	reply, err := e.server.step3ServerHello(e.hello)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.step4VerifyServerHello(reply); refusal(err) != certs.ReasonWrongType {
		t.Errorf("a server's self certificate: %v", err)
	}
	e = newHalfExchange(t, newParties(t, Version2, true))
	e.client.cfg.Cert = stranger
	ready, err := e.client.step4VerifyServerHello(e.reply)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.server.step5VerifyClientReady(ready); refusal(err) != certs.ReasonWrongType {
		t.Errorf("a client's self certificate: %v", err)
	}
	for _, weak := range []certs.PublicKey{{}, {1}} {
		e := newHalfExchange(t, newParties(t, Version2, true))
		box := e.server.shared.seal(make([]byte, secretsSize), e.client.helloNonce)
		hello := clientHello{version: Version2, publicKey: weak, nonce: [8]byte{1}}
		if _, err := e.server.step3ServerHello(hello.marshal()); !errors.Is(err, ErrWeakKey) {
			t.Errorf("a client's key %x: %v", weak[:1], err)
		}
		reply := serverHello{Version2, weak, box}
		if _, err := e.client.step4VerifyServerHello(reply.marshal()); !errors.Is(err, ErrWeakKey) {
			t.Errorf("a server's key %x: %v", weak[:1], err)
		}
	}
}
