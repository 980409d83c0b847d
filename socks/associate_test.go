package socks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/testnet"

	"github.com/rs/zerolog"
)

// sentDatagram is a datagram that a server under test has sent on.
type sentDatagram struct {
	host    string
	port    uint16
	payload string
}

// answer is a result of the far end's Receive.
type answer struct {
	payload string
	from    netip.AddrPort
}

// farEnd is an Association whose other side is the test.
type farEnd struct {
	sent    chan sentDatagram
	answers chan answer
	refuse  atomic.Bool // Send fails
	closed  chan struct{}
	close   func()
}

func newFarEnd() *farEnd {
	closed := make(chan struct{})
	return &farEnd{
		sent: make(chan sentDatagram, 100), answers: make(chan answer),
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}
}

func (f *farEnd) Send(host string, port uint16, p []byte) error {
	refuse := f.refuse.Load()
	f.sent <- sentDatagram{host, port, string(p)}
	if refuse {
		return errors.New("can't be sent")
	}
	return nil
}

func (f *farEnd) Receive(p []byte) (int, netip.AddrPort, error) {
	select {
	case a := <-f.answers:
		return copy(p, a.payload), a.from, nil
	case <-f.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (f *farEnd) Close() error {
	f.close()
	return nil
}

// wantSent waits for the next datagram that is sent on.
func (f *farEnd) wantSent(t *testing.T, want sentDatagram) {
	t.Helper()
	select {
	case got := <-f.sent:
		if got != want {
			t.Errorf("passed on %.100v, want %.100v", got, want)
		}
	case <-time.After(testTimeout):
		t.Fatalf("%.100v was not passed on", want)
	}
}

func (f *farEnd) wantClosed(t *testing.T) {
	t.Helper()
	select {
	case <-f.closed:
	case <-time.After(testTimeout):
		t.Fatal("the association was not closed")
	}
}

// associateConfig is the configuration of a server whose associations lead to
// fars, one after the other.
func associateConfig(fars ...*farEnd) Config {
	next := make(chan *farEnd, len(fars))
	for _, far := range fars {
		next <- far
	}
	return Config{
		Dial:      dialFails(errors.New("nothing is dialed here")),
		Associate: func(context.Context) (Association, error) { return <-next, nil },
	}
}

const requestUDP = "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"

// associate asks for an association and returns where its datagrams go.
func associate(t *testing.T, conn net.Conn, request string) netip.AddrPort {
	t.Helper()
	mustWrite(t, conn, greeting)
	mustRead(t, conn, methodNone)
	return requestAssociation(t, conn, request)
}

// requestAssociation is associate after the client has been admitted.
func requestAssociation(t *testing.T, conn net.Conn, request string) netip.AddrPort {
	t.Helper()
	mustWrite(t, conn, request)
	mustRead(t, conn, "\x05\x00\x00")
	size := map[byte]int{addressIPv4: 4, addressIPv6: 16}
	kind := make([]byte, 1)
	if _, err := io.ReadFull(conn, kind); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, size[kind[0]]+2)
	if _, err := io.ReadFull(conn, rest); err != nil || len(rest) == 2 {
		t.Fatalf("address of the type %d: %v", kind[0], err)
	}
	addr, _ := netip.AddrFromSlice(rest[:len(rest)-2])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[len(rest)-2:]))
}

// udpSocket opens a socket at an address of loopback.
func udpSocket(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(1 << 20)
	conn.SetDeadline(time.Now().Add(testTimeout))
	return conn
}

func sendTo(t *testing.T, conn *net.UDPConn, to netip.AddrPort, datagram string) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort([]byte(datagram), to); err != nil {
		t.Fatal(err)
	}
}

const (
	headerIPv4 = "\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35"
	headerIPv6 = "\x00\x00\x00\x04" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"
	headerName = "\x00\x00\x00\x03\x0bexample.com\x00\x35"
)

// TestAssociate sends datagrams of all sizes and address types both ways, over IPv4 and IPv6.
func TestAssociate(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		ln, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		far := newFarEnd()
		serve(t, newServer(t, associateConfig(far)), ln)
		bound := associate(t, connect(t, ln.Addr().String()), requestUDP)
		if ip := ln.Addr().(*net.TCPAddr).AddrPort().Addr(); bound.Addr() != ip {
			t.Errorf("bound to %v, want %v", bound, ip)
		}
		client := udpSocket(t, host+":0")
		for _, size := range []int{0, 1, 512, 1472, 9000, 65507 - len(headerIPv6)} {
			payload := string(bytes.Repeat([]byte{byte(size)}, size))
			for _, to := range []struct {
				header, host string
				port         uint16
			}{{headerIPv4, "192.0.2.7", 53}, {headerIPv6, "2001:db8::1", 443},
				{headerName, "example.com", 53}} {
				sendTo(t, client, bound, to.header+payload)
				far.wantSent(t, sentDatagram{to.host, to.port, payload})
			}
			for header, from := range map[string]string{
				headerIPv4: "192.0.2.7:53", headerIPv6: "[2001:db8::1]:443",
			} {
				far.answers <- answer{payload, netip.MustParseAddrPort(from)}
				p := make([]byte, 64<<10)
				n, source, err := client.ReadFromUDPAddrPort(p)
				if err != nil || string(p[:n]) != header+payload || source != bound {
					t.Errorf("answer of %d bytes from %v: %d bytes from %v, %v", size, from, n,
						source, err)
				}
			}
		}
	}
}

// wantDropped waits for the server's counts, of which those not in want are 0. Datagrams of several
// sockets may overtake each other.
func wantDropped(t *testing.T, s *Server, want map[dropReason]uint64) {
	t.Helper()
	testnet.Poll(t, testTimeout, fmt.Sprintf("%v are dropped", want), func() bool {
		for reason, counter := range s.drops {
			if counter.total.Load() != want[reason] {
				return false
			}
		}
		return true
	})
}

// startAssociating serves cfg on a loopback port until the test ends.
func startAssociating(t *testing.T, cfg Config) (s *Server, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = newServer(t, cfg)
	serve(t, s, ln)
	return s, ln.Addr().String()
}

// naming is a request that names a socket's port, and an address behind translation, which is
// ignored.
func naming(conn *net.UDPConn) string {
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return string(binary.BigEndian.AppendUint16([]byte("\x05\x03\x00\x01\x0a\x01\x02\x03"), port))
}

// wantAnswer sends an answer into an association, and checks which of its client's sockets gets it.
func (f *farEnd) wantAnswer(t *testing.T, client *net.UDPConn, payload string) {
	t.Helper()
	f.answers <- answer{payload, netip.MustParseAddrPort("192.0.2.7:53")}
	p := make([]byte, 1000)
	n, _, err := client.ReadFromUDPAddrPort(p)
	if got := string(p[:n]); err != nil || got != headerIPv4+payload {
		t.Errorf("answer %q: %q, %v", payload, got, err)
	}
}

// TestAssociateSources sends from several ports of the client's address, which all may send and the
// last of which gets the answers, and from another address, which may not.
func TestAssociateSources(t *testing.T) {
	for _, named := range []bool{false, true} {
		far := newFarEnd()
		s, addr := startAssociating(t, associateConfig(far))
		otherHost := udpSocket(t, "127.0.0.2:0")
		first, second := udpSocket(t, "127.0.0.1:0"), udpSocket(t, "127.0.0.1:0")
		request := requestUDP
		if named { // another port than it sends from
			request = naming(otherHost)
		}
		bound := associate(t, connect(t, addr), request)
		sendTo(t, otherHost, bound, headerIPv4+"other host")
		for i, client := range []*net.UDPConn{first, second, first} {
			question := "question " + string(rune('1'+i))
			sendTo(t, client, bound, headerIPv4+question)
			far.wantSent(t, sentDatagram{"192.0.2.7", 53, question})
			far.wantAnswer(t, client, "answer to "+question)
			sendTo(t, second, bound, headerIPv4[:9]) // which is no datagram, and changes no port
			sendTo(t, otherHost, bound, headerIPv4+"other host")
		}
		first.Close()
		reopened := udpSocket(t, "127.0.0.1:0")
		sendTo(t, reopened, bound, headerIPv4+"reopened")
		far.wantSent(t, sentDatagram{"192.0.2.7", 53, "reopened"})
		far.wantAnswer(t, reopened, "answer to the reopened")
		wantDropped(t, s, map[dropReason]uint64{dropAddress: 4, dropMalformed: 3})
	}
}

// TestAssociateMapped connects to a listener on all addresses, to which IPv4 addresses may look
// like IPv6.
func TestAssociateMapped(t *testing.T) {
	ln, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	far := newFarEnd()
	s := newServer(t, associateConfig(far))
	serve(t, s, ln)
	port := ln.Addr().(*net.TCPAddr).Port
	bound := associate(t, connect(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))), requestUDP)
	if !bound.Addr().Is4() || !bound.Addr().IsLoopback() {
		t.Errorf("bound to %v", bound)
	}
	for _, network := range []string{"udp4", "udp"} { // the latter's socket is of IPv6
		client, err := net.ListenUDP(network, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		client.SetDeadline(time.Now().Add(testTimeout))
		sendTo(t, client, bound, headerIPv4+network)
		far.wantSent(t, sentDatagram{"192.0.2.7", 53, network})
		far.wantAnswer(t, client, "answer to "+network)
	}
	wantDropped(t, s, nil)
}

// TestAssociatePassword shows that nothing else on the machine of a client that has authenticated
// can use its association.
func TestAssociatePassword(t *testing.T) {
	far := newFarEnd()
	cfg := associateConfig(far)
	cfg.Username, cfg.Password = "alice", "secret"
	s, addr := startAssociating(t, cfg)
	client, otherPort, otherHost := udpSocket(t, "127.0.0.1:0"), udpSocket(t, "127.0.0.1:0"),
		udpSocket(t, "127.0.0.2:0")

	const login, accepted = "\x05\x01\x02\x01\x05alice\x06secret", "\x05\x02\x01\x00"
	unnamed := connect(t, addr)
	mustWrite(t, unnamed, login+requestUDP)
	mustRead(t, unnamed, accepted+"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")

	conn := connect(t, addr)
	mustWrite(t, conn, login)
	mustRead(t, conn, accepted)
	bound := requestAssociation(t, conn, naming(client))
	for _, text := range []string{"first", "second"} {
		sendTo(t, otherPort, bound, headerIPv4+"other port")
		sendTo(t, otherHost, bound, headerIPv4+"other host")
		sendTo(t, otherPort, bound, "malformed, from another port")
		sendTo(t, client, bound, headerIPv4+text)
		far.wantSent(t, sentDatagram{"192.0.2.7", 53, text})
		far.wantAnswer(t, client, "answer to "+text)
	}
	wantDropped(t, s, map[dropReason]uint64{dropAddress: 2, dropPort: 4})
}

// TestAssociateMalformed sends what must be dropped.
func TestAssociateMalformed(t *testing.T) {
	far := newFarEnd()
	s, addr := startAssociating(t, associateConfig(far))
	bound := associate(t, connect(t, addr), requestUDP)
	client := udpSocket(t, "127.0.0.1:0")
	for _, datagram := range []string{
		"", "\x00", "\x00\x00\x00", "\x00\x00\x00\x01", headerIPv4[:len(headerIPv4)-1],
		headerIPv6[:len(headerIPv6)-1], headerName[:len(headerName)-1],
		"\x00\x00\x01\x01\xc0\x00\x02\x07\x00\x35fragment",
		"\x00\x00\x80\x01\xc0\x00\x02\x07\x00\x35last fragment",
		"\x00\x00\x00\x02\xc0\x00\x02\x07\x00\x35address type",
		"\x00\x00\x00\x00\xc0\x00\x02\x07\x00\x35",
		"\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x00port", "\x00\x00\x00\x03\x00\x00\x35name",
		"\x00\x00\x00\x03\x03a\nb\x00\x35name",
	} {
		sendTo(t, client, bound, datagram)
	}
	sendTo(t, client, bound, headerIPv4+"good")
	far.wantSent(t, sentDatagram{"192.0.2.7", 53, "good"})
	wantDropped(t, s, map[dropReason]uint64{dropFragment: 2, dropMalformed: 12})
}

// TestAssociateUndelivered drops what the far end refuses to send, and what can't be delivered.
func TestAssociateUndelivered(t *testing.T) {
	far := newFarEnd()
	s, addr := startAssociating(t, associateConfig(far))
	bound := associate(t, connect(t, addr), requestUDP)
	client := udpSocket(t, "127.0.0.1:0")
	from := netip.MustParseAddrPort("192.0.2.7:53")
	far.answers <- answer{"before the client has sent anything", from}
	wantDropped(t, s, map[dropReason]uint64{dropUnasked: 1})
	far.refuse.Store(true)
	sendTo(t, client, bound, headerIPv4+"refused")
	far.wantSent(t, sentDatagram{"192.0.2.7", 53, "refused"})
	far.refuse.Store(false)
	sendTo(t, client, bound, headerIPv4+"sent")
	far.wantSent(t, sentDatagram{"192.0.2.7", 53, "sent"})
	far.answers <- answer{string(make([]byte, 65507)), from} // too large with its header
	far.wantAnswer(t, client, "after what was not delivered")
	wantDropped(t, s, map[dropReason]uint64{dropSend: 1, dropDeliver: 1, dropUnasked: 1})
}

// TestAssociateDropsLogged drops many datagrams at once, and others later: the log has a line for
// each reason in each period, with a count of all.
func TestAssociateDropsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := zerolog.New(&log)
		d := newDrops(&logger)
		client, from := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddrPort("192.0.2.3:4000")
		for range 3 {
			for range 100 {
				d.note(dropAddress, client, from, nil)
			}
			d.note(dropSend, client, from, errors.New("too large"))
			time.Sleep(dropLogPeriod)
		}
		const (
			address = `{"level":"debug","reason":"address","client":"192.0.2.2",` +
				`"from":"192.0.2.3:4000","total":%d,"message":"socks: datagram dropped"}` + "\n"
			send = `{"level":"debug","error":"too large","reason":"send","client":"192.0.2.2",` +
				`"from":"192.0.2.3:4000","total":%d,"message":"socks: datagram dropped"}` + "\n"
		)
		want := ""
		for i := range 3 {
			want += fmt.Sprintf(address, 100*i+1) + fmt.Sprintf(send, i+1)
		}
		if log.String() != want {
			t.Errorf("logged\n%s, want\n%s", &log, want)
		}
	})
}

// TestAssociateEnds ends associations from each side.
func TestAssociateEnds(t *testing.T) {
	wantEnd := func(conn net.Conn) {
		t.Helper()
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil ||
			errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the client's connection: %d bytes, %v", n, err)
		}
	}
	wantUnbound := func(bound netip.AddrPort) {
		t.Helper()
		testnet.Poll(t, testTimeout, bound.String()+" is free again", func() bool {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(bound))
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	fars := []*farEnd{newFarEnd(), newFarEnd(), newFarEnd()}
	s := newServer(t, associateConfig(fars...))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, ln)

	conn := connect(t, ln.Addr().String())
	bound := associate(t, conn, requestUDP)
	mustWrite(t, conn, "what is sent on the connection means nothing")
	conn.CloseWrite()
	fars[0].wantClosed(t)
	wantEnd(conn)
	wantUnbound(bound)

	conn = connect(t, ln.Addr().String())
	bound = associate(t, conn, requestUDP)
	fars[1].Close()
	wantEnd(conn)
	wantUnbound(bound)

	conn = connect(t, ln.Addr().String())
	bound = associate(t, conn, requestUDP)
	if err := s.Shutdown(t.Context()); err != nil { // which has no time limit
		t.Error(err)
	}
	fars[2].wantClosed(t)
	wantEnd(conn)
	wantUnbound(bound)
}

// TestAssociateRefused fails associations before they begin.
func TestAssociateRefused(t *testing.T) {
	far := newFarEnd()
	cfg := associateConfig(far, newFarEnd())
	cfg.MaxAssociations = 1
	addr := startServer(t, cfg)
	first := connect(t, addr)
	associate(t, first, requestUDP)
	second := connect(t, addr)
	mustWrite(t, second, greeting+requestUDP)
	mustRead(t, second, methodNone+replyGeneral)
	first.Close()
	far.wantClosed(t)
	for deadline := time.Now().Add(testTimeout); ; {
		conn := connect(t, addr)
		mustWrite(t, conn, greeting+requestUDP)
		reply := make([]byte, len(methodNone+replyGeneral))
		if _, err := io.ReadFull(conn, reply); err != nil {
			t.Fatal(err)
		}
		if reply[3] == byte(ReplySucceeded) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first one's place is still taken")
		}
	}

	cfg.Associate = func(context.Context) (Association, error) {
		return nil, errors.New("some reason")
	}
	cfg.Classify = func(error) Reply { return ReplyNotAllowed }
	conn := connect(t, startServer(t, cfg))
	mustWrite(t, conn, greeting+requestUDP)
	mustRead(t, conn, methodNone+"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")

	socket := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, newServer(t, associateConfig(newFarEnd())), ln)
	local, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	mustWrite(t, local, greeting+requestUDP)
	mustRead(t, local, methodNone+replyCommand)
}

// TestAssociateGone disconnects a client while its association is being opened.
func TestAssociateGone(t *testing.T) {
	opening, cancelled := make(chan struct{}), make(chan struct{})
	addr := startServer(t, Config{
		Dial: dialFails(errors.New("nothing is dialed here")),
		Associate: func(ctx context.Context) (Association, error) {
			close(opening)
			<-ctx.Done()
			close(cancelled)
			return nil, ctx.Err()
		},
	})
	conn := connect(t, addr)
	mustWrite(t, conn, greeting+requestUDP)
	<-opening
	conn.Close()
	select {
	case <-cancelled:
	case <-time.After(testTimeout):
		t.Error("the opening goes on")
	}
}

// tcpPipe is a pipe with the addresses of a TCP connection.
type tcpPipe struct{ net.Conn }

func (tcpPipe) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1080} }
func (tcpPipe) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 50000}
}

// fakePackets is a socket for bubbles.
type fakePackets struct {
	in, out chan answer

	mu       sync.Mutex
	deadline *time.Timer
	expired  chan struct{}
	closed   chan struct{}
	close    func()
}

func newFakePackets() *fakePackets {
	closed := make(chan struct{})
	return &fakePackets{
		in:      make(chan answer),
		out:     make(chan answer, 10),
		expired: make(chan struct{}, 1),
		closed:  closed,
		close:   sync.OnceFunc(func() { close(closed) }),
	}
}

func (f *fakePackets) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	select {
	case a := <-f.in:
		return copy(p, a.payload), a.from, nil
	case <-f.expired:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	case <-f.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (f *fakePackets) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	f.out <- answer{string(p), to}
	return len(p), nil
}

func (f *fakePackets) SetReadDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deadline != nil {
		f.deadline.Stop()
	}
	f.deadline = time.AfterFunc(time.Until(t), func() { f.expired <- struct{}{} })
	return nil
}

func (f *fakePackets) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 2000}
}

func (f *fakePackets) Close() error {
	f.close()
	return nil
}

// TestAssociateIdle leaves an association idle for just under and just over the limit, in a
// synctest bubble. Datagrams either way count as activity, dropped ones don't.
func TestAssociateIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, socket := newFarEnd(), newFakePackets()
		s := newServer(t, associateConfig(far))
		s.listenUDP = func(addr netip.Addr) (packetConn, error) {
			if addr != netip.MustParseAddr("192.0.2.1") {
				t.Errorf("listens on %v", addr)
			}
			return socket, nil
		}
		ln := newPipeListener()
		serve(t, s, ln)
		near, pipe := net.Pipe()
		defer near.Close()
		ln.conns <- tcpPipe{pipe}
		for _, message := range []string{greeting, requestUDP} {
			mustWrite(t, near, message)
			mustRead(t, near, map[string]string{
				greeting:   methodNone,
				requestUDP: "\x05\x00\x00\x01\xc0\x00\x02\x01\x07\xd0",
			}[message])
		}
		client, stranger := netip.MustParseAddrPort("192.0.2.2:40000"),
			netip.MustParseAddrPort("192.0.2.3:40000")
		far.answers <- answer{"before the client has sent anything", stranger}
		synctest.Wait() // it is dropped
		for range 5 {
			socket.in <- answer{headerIPv4 + "question", client}
			far.wantSent(t, sentDatagram{"192.0.2.7", 53, "question"})
			time.Sleep(DefaultUDPIdleTimeout - time.Second)
			far.answers <- answer{"answer", netip.MustParseAddrPort("192.0.2.7:53")}
			if got := <-socket.out; got != (answer{headerIPv4 + "answer", client}) {
				t.Errorf("sent %v", got)
			}
			time.Sleep(DefaultUDPIdleTimeout - time.Second)
		}
		socket.in <- answer{headerIPv4 + "dropped", stranger}
		began := time.Now()
		if _, err := near.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the client's connection: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("ended after %v more, want 1s", took)
		}
		far.wantClosed(t)
	})
}

// FuzzParseDatagram parses any bytes: what it accepts is a valid target.
func FuzzParseDatagram(f *testing.F) {
	for _, header := range []string{
		headerIPv4, headerIPv6, headerName, "\x00\x00\x01\x01\xc0\x00\x02\x07\x00\x35",
	} {
		f.Add([]byte(header + "payload"))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		host, port, payload, reason := parseDatagram(p)
		if reason != "" {
			return
		}
		if err := checkTarget(host, int(port)); err != nil || p[2] != 0 ||
			!bytes.HasSuffix(p, payload) || len(p)-len(payload) < 4+1+1+2 {
			t.Errorf("%q: %q, %d, %q, %v", p, host, port, payload, err)
		}
	})
}
