package peer

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"culvert/scripts/bench/proc"
)

// Names of the peers.
const (
	None    = "none"
	Culvert = "culvert"

	// CulvertSystem is culvert with the system's congestion control.
	CulvertSystem = "culvert-system"

	// CulvertObserved is culvert with a control socket, an access log and metrics at both ends, which
	// are scraped, and with a reader of the events of each.
	CulvertObserved = "culvert-observed"

	// CulvertAlways is culvert that assumes each target to be reachable.
	CulvertAlways = "culvert-always"

	// CulvertUsers is culvert's remote alone, for many users.
	CulvertUsers = "culvert-users"

	OpenSSHGCM = "openssh-gcm"
	OpenSSH    = "openssh"
	XrayVLESS  = "xray-vless"
	XrayVMess  = "xray-vmess"
)

// All are the peers in the order of the tables.
var All = []string{Culvert, OpenSSHGCM, OpenSSH, XrayVLESS, XrayVMess, None}

// labels are the peers' names for people.
var labels = map[string]string{
	None:    "no proxy",
	Culvert: "culvert",

	CulvertSystem:   "culvert, --congestion system",
	CulvertObserved: "culvert, observed",
	CulvertAlways:   "culvert, --fast-open always",
	CulvertUsers:    "culvert",

	OpenSSHGCM: "OpenSSH, aes128-gcm",
	OpenSSH:    "OpenSSH, default cipher",
	XrayVLESS:  "Xray VLESS, no encryption",
	XrayVMess:  "Xray VMess, aes-128-gcm",
}

// Label is a peer's name for people.
func Label(name string) string { return labels[name] }

// Ours reports whether a peer is culvert, with whatever options.
func Ours(name string) bool { return strings.HasPrefix(name, Culvert) }

// Programs are the paths of the programs that the peers consist of.
type Programs struct {
	Culvert, Xray, HAProxy, SSH, SSHD, Keygen string
}

// Setting is the environment in which peers are started.
type Setting struct {
	Starter   *proc.Starter
	Programs  Programs
	Near, Far Host
	Proxied   bool   // HAProxy runs between the two ends, on the far host
	Folder    string // for files of this peer, which exists
	Users     int    // of CulvertUsers
}

// Peer is a running peer.
type Peer struct {
	Socks string // the address of its proxy on the near host; empty: no proxy
	PIDs  []int  // of its programs

	// Of CulvertUsers, which has no proxy.
	Remote    string   // URL
	RemoteKey string   // public
	Users     []string // secret keys in hexadecimal

	processes []*proc.Process
	observers []*observer // of its programs
}

// Stop ends the peer's programs, the near one first.
func (p *Peer) Stop() {
	for _, o := range p.observers {
		o.stop()
	}
	for i := range p.processes {
		p.processes[len(p.processes)-1-i].Stop()
	}
}

// add records a program of the peer. Programs are added after those that they need.
func (p *Peer) add(process *proc.Process) {
	p.processes = append(p.processes, process)
	p.PIDs = append(p.PIDs, process.PID())
}

// Start starts a peer. It may take a moment more until connections go through. The caller must stop
// the peer.
func Start(ctx context.Context, name string, s Setting) (_ *Peer, err error) {
	start, ok := map[string]func(context.Context, Setting, *Peer) error{
		None:    func(context.Context, Setting, *Peer) error { return nil },
		Culvert: startCulvert(nil),

		CulvertSystem:   startCulvert([]string{"--congestion", "system"}),
		CulvertObserved: startObserved,
		CulvertAlways:   startCulvert(nil, "--fast-open", "always"),
		CulvertUsers:    startUsers,

		OpenSSHGCM: startOpenSSH("aes128-gcm@openssh.com"),
		OpenSSH:    startOpenSSH(""),
		XrayVLESS:  startXray(vless),
		XrayVMess:  startXray(vmess),
	}[name]
	if !ok {
		return nil, errors.New("no such peer")
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	p := &Peer{}
	if err := start(ctx, s, p); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// server starts the far end's server with listen, which is called with the address to listen on.
// It returns the address at which the near end reaches the server.
func (s Setting) server(ctx context.Context, p *Peer,
	listen func(address string) error) (string, error) {
	port, err := FreePort()
	if err != nil {
		return "", err
	}
	address := s.Far.Address + ":" + port
	if !s.Proxied {
		return address, listen(address)
	}
	behind, err := FreePort()
	if err != nil {
		return "", err
	}
	if err := listen("127.0.0.1:" + behind); err != nil {
		return "", err
	}
	return address, s.startHAProxy(ctx, p, address, "127.0.0.1:"+behind)
}

// write writes a file into the peer's folder.
func (s Setting) write(name, text string) (string, error) {
	path := filepath.Join(s.Folder, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// waitFor waits until a process listens on an address.
func waitFor(ctx context.Context, process *proc.Process, address string) error {
	_, port, err := splitPort(address)
	if err != nil {
		return err
	}
	return process.Listening(ctx, port)
}

func splitPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}
