package socks

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"culvert/internal/bounds"
)

// Byte values of SOCKS4. Its specification is the note "SOCKS: A protocol for TCP
// proxy across firewalls" by Ying-Da Lee; SOCKS4a is the same author's addition.
const (
	socks4Version  = 4
	socks4Connect  = 1
	socks4Granted  = 90
	socks4Rejected = 91
)

// socks4Protocol speaks SOCKS4 and 4a. The messages, each given as its fields with
// their sizes in bytes:
//
//	client  version 1 · command 1 · port 2 · address 4 · user id, NUL · 4a: name, NUL
//	server  zero 1 · reply 1 · port 2 · address 4
//
// A name follows when the address is 0.0.0.x and x is not 0.
type socks4Protocol struct {
	// refuseAll is set if clients must authenticate: this protocol can't, since the user id is not
	// a secret.
	refuseAll bool
}

var (
	errNoSOCKS4Auth = errors.New("SOCKS4 can't carry the password that is asked for")
	errFieldTooLong = &bounds.Error{
		Bound: bounds.Socks4Field, Err: errors.New("user id or name is too long"),
	}
)

func (p *socks4Protocol) negotiate(c *clientConn) (string, error) {
	var head [8]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return "", err
	}
	if _, err := p.readField(c.in); err != nil {
		return "", err
	}
	ip := net.IP(head[4:])
	host := ip.String()
	if bytes.Equal(ip[:3], []byte{0, 0, 0}) && ip[3] != 0 {
		name, err := p.readField(c.in)
		if err != nil {
			return "", err
		}
		host = name
	}
	port := int(head[2])<<8 | int(head[3])
	switch err := checkTarget(host, port); {
	case p.refuseAll:
		return "", p.refuse(errNoSOCKS4Auth)
	case head[1] != socks4Connect:
		return "", p.refuse(fmt.Errorf("%w: %d", errCommand, head[1]))
	case err != nil:
		return "", p.refuse(err)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// readField reads up to a NUL, and drops the NUL.
func (p *socks4Protocol) readField(in *bufio.Reader) (string, error) {
	var field []byte
	for len(field) <= maxSOCKS4Field {
		b, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		if b == 0 {
			return string(field), nil
		}
		field = append(field, b)
	}
	return "", p.refuse(errFieldTooLong)
}

func (p *socks4Protocol) refuse(err error) *refusal {
	return &refusal{p.reply(ReplyGeneralFailure), err}
}

// reply is success or failure: the protocol's other codes are about identd. The port and the
// address have a meaning only for BIND.
func (p *socks4Protocol) reply(r Reply) []byte {
	code := byte(socks4Rejected)
	if r == ReplySucceeded {
		code = socks4Granted
	}
	return []byte{0, code, 0, 0, 0, 0, 0, 0}
}
