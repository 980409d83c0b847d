package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"culvert/internal/cli/exit"
	"culvert/internal/status/control"
	"culvert/internal/takeover"
)

// giver hands a remote's listeners over to another process that asks for them.
type giver struct {
	served  *servedRemote
	signals *interrupts

	ctx    context.Context // ends the connection to that process
	stop   context.CancelFunc
	giving sync.WaitGroup

	released chan struct{} // closed once another process has taken over

	mu         sync.Mutex
	taken      bool // by a process, or about to be
	taker      int  // the number of the last process that has asked for the listeners
	heir       int  // the number of the process that has taken over; 0 for none
	succeeding bool // a process is being started that is to take over
	ended      bool
}

func newGiver(served *servedRemote, signals *interrupts) *giver {
	g := &giver{served: served, signals: signals, released: make(chan struct{})}
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

// errGone is the answer of a process whose listeners are, or will be, another one's or nobody's.
var errGone = &control.Error{What: "it is taken over already, or ends", Status: exit.Failed}

// gone is called with mu held.
func (g *giver) gone() bool { return g.taken || g.ended || g.signals.soft.Err() != nil }

// succeed allows one process at a time to be started that is to take over; done is called when that
// has done so, or won't.
func (g *giver) succeed() (done func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone() || g.succeeding {
		return nil, errGone
	}
	g.succeeding = true
	g.giving.Add(1)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.succeeding = false
		g.giving.Done()
	}, nil
}

// isTaking reports whether a process is taking over. Each step of that has a timeout.
func (g *giver) isTaking(pid int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.taken && g.taker == pid
}

// hasTaken reports whether a process has taken over.
func (g *giver) hasTaken(pid int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heir == pid
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
	case g.gone():
		return nil, errGone
	}
	if n := len(g.all()); n > takeover.MaxListeners {
		return nil, &control.Error{
			What: fmt.Sprintf("it has %d listeners, and can hand over %d", n, takeover.MaxListeners),
			Hint: "stop it, and start the other then", Status: exit.Failed,
		}
	}
	files, err := g.duplicates()
	if err != nil {
		return nil, &control.Error{
			What: fmt.Sprintf("it can't duplicate its listeners: %v", err),
			Hint: "raise its limit of open files, or wait until it serves less", Status: exit.Failed,
		}
	}
	g.taken, g.taker = true, request.PID
	return func(conn *net.UnixConn) { g.begin(conn, request.PID, files) }, nil
}

func (g *giver) begin(conn *net.UnixConn, pid int, files []*os.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case conn == nil:
		g.taken = false
		closeFiles(files)
	case g.ended:
		conn.Close()
		closeFiles(files)
	default:
		g.giving.Go(func() { g.give(conn, pid, files) })
	}
}

// give hands the files over, and then serves what the other process passes back until that or this
// one ends.
func (g *giver) give(conn *net.UnixConn, pid int, files []*os.File) {
	log, node := g.served.log, g.served.node
	err := takeover.Give(g.ctx, conn, takeover.Old{
		Offer: takeover.Offer{
			Version: takeover.Version, PID: os.Getpid(), Listen: g.addresses(), Kept: g.kept(),
			Manager: managerVariables(),
		},
		Files: files,
		HandOver: func(to *takeover.Giver) takeover.State {
			g.served.ledger.Flush()
			return node.HandOver(to)
		},
		TakeBack: node.TakeBack,
		Release:  func() { g.release(pid) },
		Drain:    g.drain,
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
	if g.served.status != nil {
		all = append(all, g.served.status.ln)
	}
	return all
}

func (g *giver) addresses() (addresses []string) {
	for _, ln := range g.all() {
		addresses = append(addresses, listenerAddress(ln))
	}
	return addresses
}

// kept returns the unix sockets whose files are a service manager's, and stay.
func (g *giver) kept() (addresses []string) {
	for _, ln := range g.all() {
		if _, own := ln.(fileKeeper); !own && ln.Addr().Network() == "unix" {
			addresses = append(addresses, listenerAddress(ln))
		}
	}
	return addresses
}

// duplicates returns descriptors of the listeners, which the caller has to close.
func (g *giver) duplicates() (files []*os.File, err error) {
	for _, ln := range g.all() {
		var file *os.File
		if ln, ok := ln.(interface{ File() (*os.File, error) }); ok {
			file, err = ln.File()
		} else {
			err = errors.ErrUnsupported
		}
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// release gives up what the other process needs, which accepts now.
func (g *giver) release(pid int) {
	g.served.log.Info().Int("pid", pid).Msg("taken over: this process drains")
	g.mu.Lock()
	g.heir = pid
	g.mu.Unlock()
	close(g.released)
	g.served.ledger.Close()
	g.signals.manager.HandOver(pid)
	g.served.node.ReleaseListeners()
	if g.served.status != nil {
		keepFile(g.served.status.ln, true)
		g.served.status.close()
	}
	g.served.observed.stepAside()
}

// drain begins to drain once those that were about to connect have done so.
func (g *giver) drain() {
	g.giving.Go(func() {
		g.served.node.AwaitNewcomers(g.signals.soft)
		g.signals.drain()
	})
}

// fileKeeper is a listener on a unix socket with a file of its own.
type fileKeeper interface{ KeepFile(keep bool) }

// keepFile decides whether closing a listener leaves the file of its unix socket.
func keepFile(ln net.Listener, keep bool) {
	if ln, ok := ln.(fileKeeper); ok {
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
