package socks

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	gosocks5 "github.com/armon/go-socks5"
)

// Byte values of RFC 1928 that go-socks5 doesn't export.
const (
	socks5Version      = 5
	noAcceptableMethod = 0xff
	addressIPv4        = 1
	addressName        = 3
	addressIPv6        = 4
)

// socks5Protocol speaks RFC 1928. The messages, each given as its fields with
// their sizes in bytes:
//
//	client  version 1 · number of methods 1 · methods 0–255
//	server  version 1 · chosen method 1
//	client  RFC 1929, only with method 2: version 1 · length 1 · user name · length 1 · password
//	server  RFC 1929: version 1 · status 1
//	client  version 1 · command 1 · reserved 1 · address type 1 · address 4, 16 or 1–256 · port 2
//	server  version 1 · reply 1 · reserved 1 · address type 1 · bound address 4 · port 2
type socks5Protocol struct {
	auth       gosocks5.Authenticator
	associates bool // UDP ASSOCIATE is served
}

// newSOCKS5 requires the credentials of clients; nil requires none.
func newSOCKS5(asked *credentials, associates bool) *socks5Protocol {
	if asked == nil {
		return &socks5Protocol{gosocks5.NoAuthAuthenticator{}, associates}
	}
	return &socks5Protocol{gosocks5.UserPassAuthenticator{Credentials: asked}, associates}
}

var (
	errNoMethod       = errors.New("client offers no authentication method in use here")
	errRequestVersion = errors.New("request of another version")
	errAddressType    = errors.New("unknown address type")
	errCommand        = errors.New("command not supported")
)

func (p *socks5Protocol) negotiate(c *clientConn) (string, error) {
	in := &exactReader{in: c.in}
	address, err := p.readTarget(in, c)
	if _, refused := errors.AsType[*refusal](err); err != nil && !refused && in.err != nil {
		// go-socks5 formats its causes rather than wrapping them.
		err = in.err
	}
	return address, err
}

// readTarget reads and answers the messages in order.
func (p *socks5Protocol) readTarget(in *exactReader, c *clientConn) (string, error) {
	if err := p.chooseMethod(in); err != nil {
		return "", err
	}
	if _, err := p.auth.Authenticate(in, c); errors.Is(err, gosocks5.UserAuthFailed) {
		return "", &refusal{nil, err}
	} else if err != nil {
		return "", err
	}
	if err := p.checkRequestHeader(in); err != nil {
		return "", err
	}
	req, err := gosocks5.NewRequest(in)
	if err != nil {
		return "", err
	}
	// The reserved byte is ignored, as in other servers.
	if req.Command == gosocks5.AssociateCommand && p.associates {
		// The address in the request may be one behind address translation, so the connection's is
		// used.
		c.udp = &udpRequest{uint16(req.DestAddr.Port)}
		return "udp", nil
	}
	if req.Command != gosocks5.ConnectCommand {
		return "", p.refuse(ReplyCommandNotSupported, fmt.Errorf("%w: %d", errCommand, req.Command))
	}
	target := req.DestAddr
	host := target.FQDN
	if len(target.IP) != 0 {
		host = target.IP.String()
	}
	if err := checkTarget(host, target.Port); err != nil {
		return "", p.refuse(ReplyGeneralFailure, err)
	}
	return net.JoinHostPort(host, strconv.Itoa(target.Port)), nil
}

// chooseMethod reads the client's first message. The authenticator itself sends the choice of its
// method.
func (p *socks5Protocol) chooseMethod(in *exactReader) error {
	var header [2]byte
	if _, err := in.Read(header[:]); err != nil {
		return err
	}
	methods := make([]byte, header[1])
	if _, err := in.Read(methods); err != nil {
		return err
	}
	if !bytes.Contains(methods, []byte{p.auth.GetCode()}) {
		return &refusal{[]byte{socks5Version, noAcceptableMethod}, errNoMethod}
	}
	return nil
}

// checkRequestHeader checks the fixed part of a request before go-socks5 parses it, whose errors
// are indistinguishable.
func (p *socks5Protocol) checkRequestHeader(in *exactReader) error {
	version, err := in.peek(1)
	if err != nil {
		return err
	}
	if version[0] != socks5Version {
		return errRequestVersion
	}
	header, err := in.peek(4)
	if err != nil {
		return err
	}
	switch header[3] {
	case addressIPv4, addressName, addressIPv6:
		return nil
	}
	return p.refuse(ReplyAddressTypeNotSupported, fmt.Errorf("%w: %d", errAddressType, header[3]))
}

func (p *socks5Protocol) refuse(r Reply, err error) *refusal {
	return &refusal{p.reply(r), err}
}

// The bound address of reply is always 0.0.0.0:0, since the true one is the remote's and clients of
// CONNECT don't need it.
func (p *socks5Protocol) reply(r Reply) []byte {
	return []byte{socks5Version, byte(r.rfc1928()), 0, addressIPv4, 0, 0, 0, 0, 0, 0}
}

// exactReader is a reader on whose Read go-socks5 can rely as it does: it fills p or fails.
// go-socks5 asks for exactly the fields of a message, so nothing beyond the request is consumed.
type exactReader struct {
	in  *bufio.Reader
	err error // the first failure
}

func (r *exactReader) Read(p []byte) (int, error) {
	n, err := io.ReadFull(r.in, p)
	return n, r.note(err)
}

func (r *exactReader) peek(n int) ([]byte, error) {
	b, err := r.in.Peek(n)
	return b, r.note(err)
}

func (r *exactReader) note(err error) error {
	if r.err == nil {
		r.err = err
	}
	return err
}
