package cli

import (
	"context"
	"net"
	"os"
	"sync"

	"culvert/internal/cli/exit"
	"culvert/internal/quota"
	"culvert/internal/status/control"
	"culvert/internal/takeover"
)

// giver hands a remote's listeners over to another process that asks for them.
type giver struct {
	served  *servedRemote
	status  *statusServer // nil for none
	ledger  *quota.Ledger
	signals *interrupts

	ctx    context.Context // ends the connection to that process
	stop   context.CancelFunc
	giving sync.WaitGroup

	mu    sync.Mutex
	taken bool // by a process, or about to be
	ended bool
}

func newGiver(
	served *servedRemote, status *statusServer, ledger *quota.Ledger, signals *interrupts,
) *giver {
	g := &giver{served: served, status: status, ledger: ledger, signals: signals}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

// end waits until the other process knows that this one ends.
func (g *giver) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.stop()
	g.giving.Wait()
}

// accept is control.Node.TakeOver.
func (g *giver) accept(request control.TakeOver) (func(*net.UnixConn), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case request.PublicKey != g.served.observed.key():
		return nil, &control.Error{
			What: "the key is another one", Hint: "give the same --key", Status: exit.Failed,
		}
	case g.taken || g.ended || g.signals.soft.Err() != nil:
		return nil, &control.Error{What: "it is taken over already, or ends", Status: exit.Failed}
	}
	g.taken = true
	return func(conn *net.UnixConn) { g.begin(conn, request.PID) }, nil
}

func (g *giver) begin(conn *net.UnixConn, pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case conn == nil:
		g.taken = false
	case g.ended:
		conn.Close()
	default:
		g.giving.Go(func() { g.give(conn, pid) })
	}
}

// give hands over, and then serves what the other process passes back until that or this one ends.
func (g *giver) give(conn *net.UnixConn, pid int) {
	log, node := g.served.log, g.served.node
	err := takeover.Give(g.ctx, conn, takeover.Old{
		Offer: takeover.Offer{
			Version: takeover.Version, PID: os.Getpid(), Listen: g.addresses(),
			Manager: managerVariables(),
		},
		Files: g.files(),
		HandOver: func(to *takeover.Giver) takeover.State {
			g.ledger.Flush()
			return node.HandOver(to)
		},
		TakeBack: node.TakeBack,
		Release:  func() { g.release(pid) },
		Serve:    node.ServePassed,
	})
	if err != nil {
		log.Warn().Err(err).Int("pid", pid).Msg("not taken over")
		g.mu.Lock()
		defer g.mu.Unlock()
		g.taken = false
	}
}

// all are the listeners that go along.
func (g *giver) all() []net.Listener {
	all := append([]net.Listener{}, g.served.listeners...)
	if g.status != nil {
		all = append(all, g.status.ln)
	}
	return all
}

func (g *giver) addresses() (addresses []string) {
	for _, ln := range g.all() {
		addresses = append(addresses, listenerAddress(ln))
	}
	return addresses
}

// files returns descriptors of the listeners; fewer when the system has no more.
func (g *giver) files() (files []*os.File) {
	for _, ln := range g.all() {
		if ln, ok := ln.(interface{ File() (*os.File, error) }); ok {
			if file, err := ln.File(); err == nil {
				files = append(files, file)
			}
		}
	}
	return files
}

// release gives up what the other process needs, which accepts now, and begins to drain.
func (g *giver) release(pid int) {
	g.served.log.Info().Int("pid", pid).Msg("taken over: this process drains")
	g.ledger.Close()
	g.signals.manager.HandOver(pid)
	g.served.node.ReleaseListeners()
	if g.status != nil {
		keepFile(g.status.ln, true)
		g.status.close()
	}
	g.served.observed.stepAside()
	g.giving.Go(func() {
		g.served.node.AwaitNewcomers(g.signals.soft)
		g.signals.drain()
	})
}

// keepFile decides whether closing a listener leaves the file of its unix socket.
func keepFile(ln net.Listener, keep bool) {
	if ln, ok := ln.(interface{ KeepFile(bool) }); ok {
		ln.KeepFile(keep)
	}
}

// managerVariables are those through which the service manager is notified.
func managerVariables() map[string]string {
	variables := map[string]string{}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC"} {
		if value := os.Getenv(name); value != "" {
			variables[name] = value
		}
	}
	return variables
}
