package tunnel

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"culvert/internal/testnet"

	"golang.org/x/net/dns/dnsmessage"
)

// useNames makes the system's resolver ask a DNS server that knows these names and no others, until
// the test ends. A name may have an IPv6 address after its IPv4 one, and a space. The server never
// answers for a name without an address.
func useNames(t testing.TB, names map[string]string) {
	t.Helper()
	var serving sync.WaitGroup
	var mu sync.Mutex // guards all below
	var conns []net.Conn
	closed := false
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if closed {
				return nil, net.ErrClosed
			}
			near, far := net.Pipe()
			conns = append(conns, far)
			serving.Go(func() { serveNames(far, names) })
			return near, nil
		},
	}
	t.Cleanup(func() {
		net.DefaultResolver = before
		mu.Lock()
		closed = true
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		testnet.Await(t, patience, serving.Wait)
	})
}

// serveNames answers queries in the form of DNS over TCP (RFC 1035, section 4.2.2) until the
// connection ends.
func serveNames(conn net.Conn, names map[string]string) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := answerName(query, names)
		if answer == nil {
			continue
		}
		if _, err := conn.Write(
			append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...),
		); err != nil {
			return
		}
	}
}

// answerName returns the answer to a query, nil for none.
func answerName(query []byte, names map[string]string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	question := m.Questions[0]
	address, known := names[strings.TrimSuffix(question.Name.String(), ".")]
	if known && address == "" {
		return nil
	}
	v4, v6, both := strings.Cut(address, " ")
	header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}
	m.Response, m.Additionals = true, nil
	switch {
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: header, Body: &dnsmessage.AResource{A: netip.MustParseAddr(v4).As4()},
		}}
	case question.Type == dnsmessage.TypeAAAA && both:
		m.Answers = []dnsmessage.Resource{{
			Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(v6).As16()},
		}}
	}
	answer, _ := m.Pack() // nil when it fails
	return answer
}
