package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/systemd"

	"github.com/rs/zerolog"
)

// inherited are the sockets that a service manager has passed. Descriptors are the process's, so
// there is one list for all commands.
var inherited = sync.OnceValues(systemd.Inherit)

// refuseLeft returns an error if the service manager, or the node before if one of that name is
// taken over, has passed sockets that no option names, and that nobody would ever serve. The
// commands that serve call it once they are bound.
func refuseLeft(before string) error {
	sockets, err := inherited()
	if err != nil {
		return exit.Fail(exit.Failed, "can't use a socket of the service manager", err,
			"the socket unit has to name it with ListenStream= or ListenDatagram=")
	}
	left := sockets.Left()
	if len(left) == 0 {
		return nil
	}
	what := "the service manager passes a socket that nothing is to listen on"
	if before != "" {
		what = before + " listens where nothing of this process is to"
	}
	return exit.Usagef("name the same address with a flag, such as --listen "+left[0],
		"%s: %s", what, strings.Join(left, ", "))
}

// stopMargin is how long a remote may take to end after its drain: to close what is left, and to
// save quotas.
const stopMargin = 10 * time.Second

// probePause is the time between a check of the data path that failed and the next.
const probePause = 250 * time.Millisecond

// supervise reports to the service manager that a node serves, and, once ctx is done, that it
// stops. Meanwhile it feeds the manager's watchdog as long as check, which tries the data path,
// returns nil. The caller has to call stop.
func supervise(
	ctx context.Context, manager *systemd.Notifier, log zerolog.Logger, status string,
	check func(context.Context) error,
) (stop func()) {
	note := func(err error) {
		log.Warn().Err(err).Msg("the service manager's watchdog is not fed")
	}
	if err := manager.Ready(status); err != nil {
		log.Warn().Err(err).Msg("not reported as ready")
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		manager.Watch(ctx, func(ctx context.Context) error { return checkPatiently(ctx, check) }, note)
		<-ctx.Done()
		manager.Stopping() // a manager that is gone needs no notice
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// checkPatiently calls check until it returns nil or ctx is done: a process that is short of
// something for a moment is no reason to kill it.
func checkPatiently(ctx context.Context, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return err
		}
	}
}

// probeHTTP connects to the HTTP server behind a listener of ours, and has it answer a request that
// net/http answers without looking for a page: it expects what no server does.
func probeHTTP(ctx context.Context, ln net.Listener, secure bool) error {
	return probe(ctx, ln, func(conn net.Conn) error {
		if secure {
			// It is ourselves that we talk to, by an address that no certificate has.
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		const request = "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: nothing\r\n\r\n"
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
}

// probeSocks connects to the proxy behind a listener of ours, and has it choose how clients
// authenticate.
func probeSocks(ctx context.Context, ln net.Listener) error {
	return probe(ctx, ln, func(conn net.Conn) error {
		const version = 5
		if _, err := conn.Write([]byte{version, 2, 0, 2}); err != nil { // RFC 1928, section 3
			return err
		}
		var answer [2]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return err
		}
		if answer[0] != version {
			return fmt.Errorf("answered with %x", answer)
		}
		return nil
	})
}

func probe(ctx context.Context, ln net.Listener, talk func(net.Conn) error) error {
	conn, err := dialAny(ctx, ln.Addr().Network(), reachable(ln.Addr()))
	if ln.Addr().Network() == "unix" && errors.Is(err, fs.ErrPermission) {
		return nil // a socket unit decides who may connect, and that may be others than this user
	}
	if err == nil {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
		err = talk(conn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", listenerAddress(ln), err)
	}
	return nil
}

// dialAny dials the addresses one by one until one of them accepts.
func dialAny(ctx context.Context, network string, addresses []string) (net.Conn, error) {
	var failed error
	for _, address := range addresses {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// reachable returns where to dial, in this order, to connect to a listener of this process. One of
// all addresses of IPv6 may be for IPv6 alone, or also for IPv4 where IPv6 is switched off, so that
// loopback has no ::1.
func reachable(addr net.Addr) []string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return []string{addr.String()}
	}
	port := strconv.Itoa(tcp.Port)
	addresses := []string{net.JoinHostPort("127.0.0.1", port)}
	if tcp.IP.To4() == nil {
		addresses = slices.Insert(addresses, 0, net.JoinHostPort("::1", port))
	}
	return addresses
}

// checkPath tries the data path of a local: the proxy's port, and the session.
func (s *service) checkPath(ctx context.Context) error {
	var refused error
	if ln := s.listeners.socks; ln != nil {
		if proxy := s.listeners.live.Load().proxyAt(ln); proxy != nil {
			// Too many clients are no reason to end the sessions of all.
			if refused = probeSocks(ctx, ln); proxy.IsFull() {
				refused = nil
			}
		}
	}
	return errors.Join(refused, s.node.CheckPath(ctx))
}
