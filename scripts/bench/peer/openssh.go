package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
)

// sshdConfig admits only the current user with one key.
const sshdConfig = `ListenAddress %s
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
`

// startOpenSSH starts an sshd and an "ssh -D" with a cipher; if it is empty, they use their
// default.
func startOpenSSH(cipher string) func(context.Context, Setting, *Peer) error {
	return func(ctx context.Context, s Setting, p *Peer) error {
		me, err := user.Current()
		if err != nil {
			return err
		}
		if os.Geteuid() == 0 { // the folder that sshd's unprivileged process is confined to
			if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
				return err
			}
		}
		hostKey, clientKey, err := s.sshKeys(ctx)
		if err != nil {
			return err
		}
		address, err := s.server(ctx, p,
			func(listen string) error { return s.startSSHD(ctx, p, listen, hostKey, clientKey) })
		if err != nil {
			return err
		}
		return s.startSSH(ctx, p, address, me.Username, clientKey, cipher)
	}
}

// sshKeys generates the key pairs of both ends and the client's known_hosts file.
func (s Setting) sshKeys(ctx context.Context) (hostKey, clientKey string, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	hostKey, clientKey = filepath.Join(s.Folder, "host"), filepath.Join(s.Folder, "client")
	for _, file := range []string{hostKey, clientKey} {
		cmd := Host{}.Command(s.Programs.Keygen, "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f",
			file)
		if _, err := s.Starter.Run(ctx, "ssh-keygen", cmd, nil); err != nil {
			return "", "", err
		}
	}
	public, err := os.ReadFile(hostKey + ".pub")
	if err != nil {
		return "", "", err
	}
	_, err = s.write("known_hosts", "bench "+string(public))
	return hostKey, clientKey, err
}

func (s Setting) startSSHD(ctx context.Context, p *Peer, listen, hostKey, clientKey string) error {
	config, err := s.write("sshd_config", fmt.Sprintf(sshdConfig, listen, hostKey, clientKey))
	if err != nil {
		return err
	}
	process, err := s.Starter.Start("sshd", s.Far.Command(s.Programs.SSHD, "-D", "-e", "-f", config))
	if err != nil {
		return err
	}
	p.add(process)
	return waitFor(ctx, process, listen)
}

func (s Setting) startSSH(ctx context.Context, p *Peer, address, user, key, cipher string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	socks, err := FreePort()
	if err != nil {
		return err
	}
	p.Socks = "127.0.0.1:" + socks
	args := []string{"-N", "-F", "none", "-D", p.Socks, "-i", key, "-p", port, "-l", user}
	for _, option := range []string{
		"IdentitiesOnly=yes", "BatchMode=yes", "ExitOnForwardFailure=yes", "LogLevel=ERROR",
		"HostKeyAlias=bench",
		"UserKnownHostsFile=" + filepath.Join(s.Folder, "known_hosts"),
		"ConnectTimeout=10",
	} {
		args = append(args, "-o", option)
	}
	if cipher != "" {
		args = append(args, "-c", cipher)
	}
	process, err := s.Starter.Start("ssh", s.Near.Command(s.Programs.SSH, append(args, host)...))
	if err != nil {
		return err
	}
	p.add(process)
	return waitFor(ctx, process, p.Socks)
}
